"""Composition root: options -> a service with its adapters.

Adapters are imported when they are asked for: the command line must start fast.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from kubectl_vmredir.errors import LabError, UsbUnavailable
from kubectl_vmredir.model import DeviceSelector

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence

    from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, ConfigOptions
    from kubectl_vmredir.lab.backends import Backend
    from kubectl_vmredir.lab.cluster import Lab
    from kubectl_vmredir.lab.demo import DemoLab
    from kubectl_vmredir.lab.devices.source import VirtualDevices
    from kubectl_vmredir.lab.story import Report
    from kubectl_vmredir.model import Check
    from kubectl_vmredir.service.ports import DeviceSource
    from kubectl_vmredir.service.service import Service

LAB_VARIABLE: Final = "VMREDIR_LAB"
"""Environment variable with the folder of the lab; set in the shell of ``lab up``."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user said about the cluster and the devices; spelled as kubectl's flags.

    Attributes:
        kubeconfig: File to use, and no other; None for kubectl's rules.
        request_timeout_s: How long one request may take; None for no limit of the user's.
        lab: Use the running lab: its cluster and its devices.
        virtual: Use virtual devices with the cluster of the kubeconfig.
    """

    kubeconfig: str | None = None
    context: str | None = None
    cluster: str | None = None
    user: str | None = None
    namespace: str | None = None
    server: str | None = None
    token: str | None = field(default=None, repr=False)
    impersonate_user: str | None = None
    impersonate_groups: tuple[str, ...] = ()
    impersonate_uid: str | None = None
    insecure: bool = False
    request_timeout_s: float | None = None
    lab: bool = False
    virtual: bool = False

    @property
    def in_lab(self) -> bool:
        """Whether the lab is meant: asked for, or we are in its shell and nothing else was said."""
        elsewhere = self.kubeconfig is not None or self.virtual
        return self.lab or (LAB_VARIABLE in os.environ and not elsewhere)


@dataclass(frozen=True, slots=True)
class Connection:
    """A service, and for whom it works.

    Attributes:
        service: The service.
        namespace: The namespace that is meant where none is named.
        context: Name of the kubeconfig's context.
        user: Name of the user, as far as the kubeconfig knows it.
        cluster: Address of the API server.
        runs_plugin: Whether a credential plugin says who the user is.
    """

    service: Service
    namespace: str
    context: str = ""
    user: str = ""
    cluster: str = ""
    runs_plugin: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """Whom options mean.

    Attributes:
        context: Name of the kubeconfig's context; empty if there is none.
        user: Name of the user, as far as the kubeconfig knows it.
    """

    context: str
    user: str


@asynccontextmanager
async def open_service(
    options: Options,
    environ: Mapping[str, str] = os.environ,
    expected: Collection[str] = (),
) -> AsyncGenerator[Connection, None]:
    """Open a service in this process for one user of one cluster.

    Args:
        options: What the user said.
        environ: Variables of the shell where it was said. They may change: credential plugins see
            them as they are then.
        expected: Names of variables that there should be: who looks for a fault is told of those
            that are not.

    Raises:
        VmRedirError: If the kubeconfig or the lab cannot be used.
    """
    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.proxy import proxy_for
    from kubectl_vmredir.kubevirt.cluster import KubevirtCluster
    from kubectl_vmredir.kubevirt.dial import ApiDialer
    from kubectl_vmredir.service.service import Service

    config = replace(_cluster_config(options, environ), expected=expected)
    way_out = proxy_for(config.server, config.proxy_url, environ) or config.server
    async with (
        open_devices(options, environ, server_hosts=_host_of(way_out)) as devices,
        KubeClient(config) as client,
    ):
        cluster = KubevirtCluster(client)
        async with Service(devices, cluster, ApiDialer(client)) as service:
            user = config.impersonation.user or config.user.name
            yield Connection(
                service,
                cluster.default_namespace,
                config.context,
                user,
                config.server,
                runs_plugin=config.user.exec is not None,
            )


@asynccontextmanager
async def open_devices(
    options: Options, environ: Mapping[str, str] = os.environ, *, server_hosts: Sequence[str] = ()
) -> AsyncGenerator[DeviceSource, None]:
    """Open the devices of this machine, and with them the virtual ones that are meant.

    A machine without USB is no error here: whoever asks for devices is told.

    Args:
        options: What the user said.
        environ: Variables of the shell where it was said.
        server_hosts: Where the traffic to the API server goes first.

    Raises:
        LabError: If the virtual devices cannot be used.
    """
    from kubectl_vmredir.service.device_sources import AllDevices, NoDevices
    from kubectl_vmredir.usb.source import UsbDevices

    async with AsyncExitStack() as stack:
        sources: list[DeviceSource] = []
        if options.in_lab or options.virtual:
            sources.append(await stack.enter_async_context(_virtual_devices(options, environ)))
        try:
            sources.append(
                await stack.enter_async_context(UsbDevices(server_hosts, claims=claims_folder()))
            )
        except UsbUnavailable as error:
            sources.append(NoDevices(error))
        yield await stack.enter_async_context(AllDevices(sources))


def examine_usb() -> Sequence[Check]:
    """Look at what this machine needs to redirect USB devices. Blocks."""
    from kubectl_vmredir.usb.doctor import examine

    return examine(claims=claims_folder())


def udev_rule(selector: DeviceSelector) -> str:
    """Return the udev rule that lets this user open a device of this machine. Blocks.

    Raises:
        UsbError: If it is not certain which device is meant.
    """
    from kubectl_vmredir.usb.discovery import list_devices
    from kubectl_vmredir.usb.udev_rule import rule_for

    try:
        devices = list_devices()
    except UsbUnavailable:  # the rule may be for another machine, or for later
        devices = []
    return rule_for(selector, devices)


def claims_folder() -> Path:
    """Return where the claims of this user are written down."""
    return _state_folder() / "claims"


def log_file() -> Path:
    """Return where programs without a place for messages write their log."""
    return _state_folder() / "vmredir.log"


def lab_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the lab: of the shell that we are in, or the default one."""
    named = environ.get(LAB_VARIABLE)
    return Path(named) if named else _state_folder() / "lab"


def open_lab(folder: Path, *, backend: str, nodes: int = 2, split: bool = False) -> Lab:
    """Return a lab in that folder, to be entered.

    Args:
        folder: Made if it is not there.
        backend: ``sim``, ``qemu``, or ``auto`` for the best that works here.
        nodes: How many nodes.
        split: Whether each component is a process of its own.
    """
    from kubectl_vmredir.lab.cluster import Lab

    return Lab(folder, backend=_backend(backend), nodes=nodes, split=split)


def story_loop(backend: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop for :func:`tell_story`; None for asyncio's own."""
    from kubectl_vmredir.lab.backends import Backend
    from kubectl_vmredir.lab.fast_time import FastLoop

    return FastLoop if _backend(backend) is Backend.SIM else None


async def tell_story(
    folder: Path, *, backend: str, migrations: int, say: Callable[[str], None]
) -> Report:
    """Play the demo in a lab of its own in that folder; the user's kubeconfig is not read.

    Args:
        folder: Of the lab.
        backend: ``sim``, ``qemu``, or ``auto`` for the best that works here.
        migrations: How often the VM moves.
        say: Hears a sentence for people at each step.

    Raises:
        VmRedirError: If the story cannot go on.
    """
    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.kubeconfig import ConfigOptions, load_config
    from kubectl_vmredir.kubevirt.cluster import KubevirtCluster
    from kubectl_vmredir.kubevirt.dial import ApiDialer
    from kubectl_vmredir.lab import story
    from kubectl_vmredir.lab.cluster import Lab
    from kubectl_vmredir.lab.console import follow_console
    from kubectl_vmredir.lab.devices.source import VirtualDevices
    from kubectl_vmredir.lab.devices.stick import Stick
    from kubectl_vmredir.lab.fast_time import speed
    from kubectl_vmredir.service.service import Service

    chosen = _backend(backend)
    image = os.urandom(story.IMAGE_BYTES[chosen])
    stick = Stick("FLASH001", image, read_only=True)
    async with Lab(folder, backend=chosen) as lab, VirtualDevices([stick]) as devices:
        say(f"a lab of {len(lab.node_names)} nodes is up, with {chosen} guests")
        await lab.create_vm(story.VM, slots=(story.SLOT,))
        await lab.wait_running(story.VM)
        say(f"VM {story.VM} runs")
        config = load_config(ConfigOptions(kubeconfig=lab.kubeconfig), {})
        async with (
            KubeClient(config) as client,
            Service(devices, KubevirtCluster(client), ApiDialer(client)) as service,
        ):
            stage = story.Stage(
                service=service,
                device=DeviceSelector.of((await devices.devices())[0]),
                image=image,
                bytes_served=lambda: stick.bytes_served,
                migrate=lab.migrate,
                console=follow_console(lab, story.VM),
                backend=str(chosen),
                clock_speed=speed(),
            )
            return await story.tell(stage, migrations=migrations, say=say)


def demo_lab(folder: Path, *, backend: str, chaos: bool) -> DemoLab:
    """Return the lab of the demo, to be entered; needs a running event loop.

    Args:
        folder: Where it keeps its files.
        backend: ``sim``, ``qemu``, or ``auto`` for the best that works here.
        chaos: Whether its VMs move by themselves.
    """
    from kubectl_vmredir.lab.demo import CHAOS_S, DemoLab

    return DemoLab(folder, backend=_backend(backend), chaos_s=CHAOS_S if chaos else None)


@asynccontextmanager
async def open_demo(demo: DemoLab, context: str) -> AsyncGenerator[Connection, None]:
    """Open a service that sees the lab of the demo and nothing else, as the user of a context.

    Raises:
        VmRedirError: If the lab does not come up.
    """
    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.kubeconfig import ConfigOptions, load_config
    from kubectl_vmredir.kubevirt.cluster import KubevirtCluster
    from kubectl_vmredir.kubevirt.dial import ApiDialer
    from kubectl_vmredir.service.service import Service

    await demo.is_up()
    config = load_config(
        ConfigOptions(kubeconfig=demo.lab.kubeconfig, context=context, namespace="demo"), {}
    )
    async with (
        KubeClient(config) as client,
        Service(demo.devices, KubevirtCluster(client), ApiDialer(client)) as service,
    ):
        yield Connection(service, config.namespace, config.context, config.user.name)


def _backend(name: str) -> Backend:
    from kubectl_vmredir.lab.backends import Backend

    return Backend.best() if name == "auto" else Backend(name)


def pinned(options: Options) -> Options:
    """Return options that mean the same wherever and whenever they are used.

    Raises:
        VmRedirError: If the kubeconfig or the lab cannot be used.
    """
    config = _cluster_config(options, os.environ)
    return replace(options, lab=options.in_lab, context=config.context or None)


def account(options: Options) -> Account:
    """Return whom the options mean; asks no cluster.

    Raises:
        VmRedirError: If the kubeconfig or the lab cannot be used.
    """
    config = _cluster_config(options, os.environ)
    return Account(config.context, config.impersonation.user or config.user.name)


def context_names(options: Options) -> Sequence[str]:
    """Return the contexts that the options leave to choose from.

    Raises:
        VmRedirError: If the kubeconfig or the lab cannot be used.
    """
    from kubectl_vmredir.k8s import kubeconfig

    return kubeconfig.context_names(_config_options(options, os.environ), os.environ)


def _cluster_config(options: Options, environ: Mapping[str, str]) -> ClusterConfig:
    from kubectl_vmredir.k8s.kubeconfig import load_config

    return load_config(_config_options(options, environ), environ)


def _config_options(options: Options, environ: Mapping[str, str]) -> ConfigOptions:
    from kubectl_vmredir.k8s.kubeconfig import ConfigOptions

    return ConfigOptions(
        kubeconfig=_lab_kubeconfig(environ) if options.in_lab else options.kubeconfig,
        context=options.context,
        cluster=options.cluster,
        user=options.user,
        namespace=options.namespace,
        server=options.server,
        token=options.token,
        impersonate_user=options.impersonate_user,
        impersonate_groups=options.impersonate_groups,
        impersonate_uid=options.impersonate_uid,
        insecure_skip_tls_verify=options.insecure or None,
        request_timeout_s=options.request_timeout_s,
    )


def _lab_kubeconfig(environ: Mapping[str, str]) -> Path:
    from kubectl_vmredir.lab.components import Kubeconfigs
    from kubectl_vmredir.lab.running import is_running

    if not is_running(lab_folder(environ)):
        raise LabError("no lab is running", hint="Start one with: kubectl vmredir lab up")
    return Kubeconfigs.in_folder(lab_folder(environ) / "api").people


def _host_of(url: str) -> Sequence[str]:
    host = urlsplit(url).hostname
    return (host,) if host else ()


def _virtual_devices(options: Options, environ: Mapping[str, str]) -> VirtualDevices:
    from kubectl_vmredir.lab.devices.shelf import lab_devices
    from kubectl_vmredir.lab.devices.source import VirtualDevices

    folder = lab_folder(environ) if options.in_lab else _state_folder() / "virtual"
    return VirtualDevices(lab_devices(folder / "devices"))


def _state_folder() -> Path:
    import platformdirs

    return platformdirs.user_state_path("kubectl-vmredir")
