"""Programs that redirect keyboards to VMs of a lab, and what the lab sees of it.

The service is the real one, with its real adapter, over real sockets. Where something is waited for
until it is so, time is virtual.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ConfigOptions, load_config
from kubectl_vmredir.kubevirt.cluster import KubevirtCluster
from kubectl_vmredir.kubevirt.dial import ApiDialer
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.devices.keyboard import IDS, Keyboard
from kubectl_vmredir.lab.devices.source import VirtualDevices
from kubectl_vmredir.lab.guests.report import ConsoleReader, Disconnect, KernelLine
from kubectl_vmredir.model import DeviceSelector, RedirectionId, RedirectionState, Route, VmiRef
from kubectl_vmredir.service.gate import RULES, Rule
from kubectl_vmredir.service.interface import BindRequest, RedirectionStatus
from kubectl_vmredir.service.ports import Link, LinkListener
from kubectl_vmredir.service.service import Service
from tests.support.virtual_clock import until

RETRY_S = 0.2

_NODES = "kubectl_vmredir.lab.nodes.streams"
_LIMIT_S = 30.0
_numbers = itertools.count(1)


# -- what the lab sees ------------------------------------------------------------------------


@dataclass(frozen=True)
class Traces:
    """All that was done to a VM so far.

    Attributes:
        uid: Of its VMI: a VM that was lost has another one.
        slots: What its nodes said of its USB streams: each dial, and each end.
        kernel: What its guest's kernel said of USB devices.
    """

    uid: str
    slots: tuple[str, ...]
    kernel: tuple[str, ...]

    @property
    def plugged(self) -> list[tuple[str, str]]:
        """Port and serial number of the devices that the guest has, by port."""
        have: dict[str, str] = {}
        for line in self.kernel:
            port, _, said = line.removeprefix("usb ").partition(": ")
            if said.startswith("SerialNumber: "):
                have[port] = said.removeprefix("SerialNumber: ")
            elif said == _DISCONNECTED:
                have.pop(port, None)
        return sorted(have.items())


_DISCONNECTED = "USB disconnect"


@dataclass
class Desk:
    """A VM of the lab, looked at from outside.

    Attributes:
        lab: Where it is.
        ref: Namespace and name.
    """

    lab: Lab
    ref: VmiRef
    _said: list[str] = field(default_factory=list)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, line: str) -> None:
        """Take in what a node said."""
        self._said.append(line)
        self._heard.set()

    async def streams(self, *changes: str) -> None:
        """Wait until so much was said of its USB streams: ``0 taken``, for instance."""
        wanted = [f"slot {change.replace(' ', ' is ')}" for change in changes]
        async with asyncio.timeout(_LIMIT_S):
            while [line.rpartition(": ")[2] for line in self.traces.slots] != wanted:
                self._heard.clear()
                await self._heard.wait()

    async def has(self, *serials: str) -> None:
        """Wait until its guest has these devices, and no others."""
        await until(lambda: sorted(serial for _, serial in self.traces.plugged) == sorted(serials))

    async def knows(self, serial: str) -> None:
        """Wait until its guest has this device."""
        await until(lambda: serial in [known for _, known in self.traces.plugged])

    @property
    def traces(self) -> Traces:
        """What was done to it so far."""
        vmi = self.lab.vmi(self.ref)
        assert vmi is not None
        reader = ConsoleReader()
        console = b"".join(log.read_bytes() for log in self.lab.console_log(self.ref))
        kernel = []
        for fact in reader.feed(console):
            match fact:
                case Disconnect(port=port):
                    kernel.append(f"usb {port}: {_DISCONNECTED}")
                case KernelLine(text=text) if text.startswith("usb "):
                    kernel.append(text)
                case _:
                    pass
        uid = objects.uid(vmi)
        return Traces(uid, tuple(line for line in self._said if uid in line), tuple(kernel))


class _ToDesk(logging.Handler):
    """Hands on what virt-handlers log."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(logging.INFO)
        self._desk = desk

    def emit(self, record: logging.LogRecord) -> None:
        self._desk.hear(record.getMessage())


@contextmanager
def _listening(desk: Desk) -> Iterator[None]:
    logger, handler = logging.getLogger(_NODES), _ToDesk(desk)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


@asynccontextmanager
async def a_desk(lab: Lab, name: str) -> AsyncIterator[Desk]:
    """Give a VM that runs, with slots ``a`` to ``d``."""
    desk = Desk(lab, VmiRef("demo", f"{name}-{next(_numbers)}"))
    with _listening(desk):
        await lab.create_vm(desk.ref, slots=("a", "b", "c", "d"))
        await lab.wait_running(desk.ref)
        yield desk
        await lab.delete_vm(desk.ref)


# -- programs ---------------------------------------------------------------------------------


class FlawedLink:
    """A link in which a bug can be put; it is met at the next ping."""

    def __init__(self, link: Link, dialer: FlawedDialer) -> None:
        self._link = link
        self._dialer = dialer

    @property
    def route(self) -> Route:
        return self._link.route

    @property
    def sent(self) -> int:
        return self._link.sent

    def send(self, data: bytes | memoryview) -> None:
        self._link.send(data)

    def pause_reading(self) -> None:
        self._link.pause_reading()

    def resume_reading(self) -> None:
        self._link.resume_reading()

    def ping(self) -> None:
        if self._dialer.bug is not None:
            raise self._dialer.bug
        self._link.ping()

    async def close(self) -> None:
        await self._link.close()


class FlawedDialer:
    """The real dialer, whose links can have a bug."""

    def __init__(self, client: KubeClient) -> None:
        self.bug: Exception | None = None
        self._dialer = ApiDialer(client)

    async def dial(self, vmi: VmiRef, listener: LinkListener, ask: Callable[[], None]) -> Link:
        return FlawedLink(await self._dialer.dial(vmi, listener, ask), self)


@dataclass(frozen=True)
class Program:
    """What runs on the workstation of one user."""

    service: Service
    dialer: FlawedDialer

    async def bind(self, serial: str, desk: Desk, slot: str) -> RedirectionId:
        """Bind a keyboard."""
        selector = DeviceSelector(ids=IDS, serial=serial)
        return await self.service.bind(BindRequest(selector, desk.ref, slot))

    async def plug_in(self, serial: str, desk: Desk, slot: str) -> RedirectionId:
        """Bind a keyboard, and wait until the guest knows it."""
        redirection = await self.bind(serial, desk, slot)
        await desk.knows(serial)
        return redirection

    async def status(self, redirection: RedirectionId) -> RedirectionStatus:
        views = (await self.service.snapshot()).redirections
        return next(view.status for view in views if view.status.id == redirection)

    async def state(self, redirection: RedirectionId) -> RedirectionState:
        return (await self.status(redirection)).state

    async def redirections(self) -> list[RedirectionId]:
        return [view.status.id for view in (await self.service.snapshot()).redirections]


def a_client(lab: Lab, user: str = "alice") -> KubeClient:
    """Return a client of the lab's cluster, to be entered."""
    return KubeClient(load_config(ConfigOptions(kubeconfig=lab.kubeconfig, context=user), {}))


@asynccontextmanager
async def a_program(
    lab: Lab, *serials: str, rules: Sequence[Rule] = RULES, user: str = "alice"
) -> AsyncIterator[Program]:
    """Give a program with keyboards of these serial numbers."""
    async with (
        VirtualDevices([Keyboard(serial) for serial in serials]) as devices,
        a_client(lab, user) as client,
    ):
        dialer = FlawedDialer(client)
        async with Service(
            devices,
            KubevirtCluster(client),
            dialer,
            rules=rules,
            backoff=lambda: itertools.repeat(RETRY_S),
        ) as service:
            yield Program(service, dialer)
