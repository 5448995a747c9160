"""The whole lab as one object: API server, controllers, nodes, and what a test does with them.

Everything but the API server is a client of it, with a URL and a kubeconfig; so it makes no
difference whether the components run in this process or each in one of its own.
"""

from __future__ import annotations

import asyncio
import functools
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self, TypeVar

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.k8s.status import StatusError
from kubectl_vmredir.lab import objects, timeline
from kubectl_vmredir.lab.api.server import ApiServer
from kubectl_vmredir.lab.backends import Backend, hypervisor, require
from kubectl_vmredir.lab.cache import CONFLICT, NOT_FOUND, Cache
from kubectl_vmredir.lab.components import Endpoint, Kubeconfigs, run_controllers, run_node
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.moves import WAIT_TIMEOUT_S, Move
from kubectl_vmredir.lab.nodes.means import NodeOptions
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.processes import Component
from kubectl_vmredir.lab.running import the_only_lab
from kubectl_vmredir.lab.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from types import TracebackType

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.clock import Clock
    from kubectl_vmredir.lab.guests.domain import Hypervisor
    from kubectl_vmredir.lab.timeline import Step
    from kubectl_vmredir.model import VmiRef

ADMIN: Final = "admin"
"""Context of the kubeconfig that may do everything."""
SLOTS_ANNOTATION: Final = "vmredir.io/slots"
CONTROLLERS: Final = "controllers"

Found = TypeVar("Found")


class Lab:
    """A KubeVirt-like cluster on the loopback interface; an async context manager.

    Args:
        folder: Of the lab; made, mode 0700. A lab that ended here before is gone on with.
        backend: What its guests are.
        nodes: How many nodes there are: ``node1`` and so on.
        split: Whether each component is a process of its own.
        options: How the nodes behave.
        port: Of the API server; 0 for any that is free.
        guests: Makes the guests of a node, instead of ``backend``; not with ``split``.
        clock: The time that controllers and nodes go by; not with ``split``.

    Attributes:
        folder: Where all of it is.
        kubeconfig: For people: contexts ``alice`` (the current one), ``admin`` and others; 0600.
        api: The API server; None with ``split``.
        client: Talks to the API server as ``admin``.
        backend: What its guests are.
        cache: All objects, as ``admin`` sees them.
        faults: What nodes do wrong.
    """

    def __init__(
        self,
        folder: Path,
        *,
        backend: Backend = Backend.SIM,
        nodes: int = 2,
        split: bool = False,
        options: NodeOptions | None = None,
        port: int = 0,
        guests: Callable[[], AbstractAsyncContextManager[Hypervisor]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        assert not (split and (guests or clock)), "processes take neither guests nor a clock"
        self.folder = folder.absolute()
        self.backend = backend
        self._split = split
        self._options = options or NodeOptions()
        self._port = port
        self._guests = guests
        self._clock = clock
        self._kubeconfigs = Kubeconfigs.in_folder(self.folder / "api")
        self._stack = AsyncExitStack()
        self._running: dict[str, asyncio.Task[None] | Component] = {}
        self._logs: dict[str, dict[str, tuple[int, Path]]] = {}  # by VMI and pod, both by UID
        self.node_names = tuple(f"node{number + 1}" for number in range(nodes))
        self.kubeconfig = self._kubeconfigs.people
        self.api: ApiServer | None = None
        self.client: KubeClient
        self.cache: Cache
        self.faults: Trouble

    async def __aenter__(self) -> Self:
        """Start everything; return when VMs can run.

        Raises:
            LabError: If it cannot be started here.
        """
        if self._guests is None:
            require(self.backend)
        try:
            await self._start()
        except BaseException as exc:
            await self.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self._stop_all()
        return await self._stack.__aexit__(exc_type, exc, traceback)

    async def _start(self) -> None:
        enter = self._stack.enter_async_context
        self._stack.enter_context(the_only_lab(self.folder))
        if self._split:
            self._server = await self._start_api_process()
        else:
            self.api = await enter(ApiServer(self._kubeconfigs.people.parent, port=self._port))
            self._kubeconfigs.write(self.api)
            self._server = self.api.url
        self.client = await enter(self.endpoint(self.kubeconfig, ADMIN).client())
        self._group = await enter(asyncio.TaskGroup())
        self.cache = Cache(self.client, {collection: {} for collection in Collection})
        watching = self._group.create_task(self.cache.run(), name="lab-cache")
        self._stack.callback(watching.cancel)
        self.faults = Trouble(self.client, self.cache)
        await self.cache.listed()
        await self.start_controllers()
        for name in self.node_names:
            await self._launch_node(name)
        for name in self.node_names:
            await self._node_is_up(name)

    # -- components ---------------------------------------------------------------------------

    def endpoint(self, kubeconfig: Path, context: str | None = None) -> Endpoint:
        """Return where the API server is, for who is in that kubeconfig."""
        return Endpoint(kubeconfig, self._server, context)

    async def start_controllers(self) -> None:
        """Start the controllers, for instance again."""
        endpoint = self.endpoint(self._kubeconfigs.controllers)
        await self._run(
            CONTROLLERS,
            lambda: run_controllers(endpoint, clock=self._clock),
            ["controllers", *_arguments(endpoint)],
        )

    async def start_node(self, name: str) -> None:
        """Start a node, for instance again: its guests of before are lost.

        Returns when its streams can be dialed.
        """
        await self._launch_node(name)
        await self._node_is_up(name)

    async def kill(self, name: str) -> None:
        """End the controllers or a node at once; in a process of its own by SIGKILL."""
        match self._running.pop(name):
            case asyncio.Task() as task:
                task.cancel()
                await asyncio.wait([task])
            case Component() as process:
                await process.kill()

    async def _launch_node(self, name: str) -> None:
        handler = f"{Collection.PODS.of(objects.KUBEVIRT_NAMESPACE)}/{objects.HANDLER}-{name}"
        try:  # that of an earlier life would be taken for the new one
            await self.client.delete(handler, options={"gracePeriodSeconds": 0})
        except StatusError as error:
            if error.status != NOT_FOUND:
                raise
        await self.until(lambda: self._handler_of(name) is None, f"{name} is down")
        endpoint = self.endpoint(self._kubeconfigs.handler)
        options = self._options
        await self._run(
            name,
            lambda: run_node(
                name,
                self._folder_of(name),
                endpoint,
                self._guests or functools.partial(hypervisor, self.backend),
                options=options,
                clock=self._clock,
            ),
            [
                "node", name, *_arguments(endpoint), "--backend", self.backend,
                "--dialect", options.dialect, "--node-name-gap", str(options.node_name_gap_s),
            ],
        )  # fmt: skip

    async def _node_is_up(self, name: str) -> None:
        await self.until(
            lambda: (pod := self._handler_of(name)) and objects.is_ready(pod), f"{name} is up"
        )

    async def _run(
        self, name: str, runner: Callable[[], Coroutine[object, object, None]], args: Sequence[str]
    ) -> None:
        if self._split:
            component = Component(name, self._folder_of(name), args)
            self._running[name] = await self._stack.enter_async_context(component)
        else:
            self._running[name] = self._group.create_task(runner(), name=name)

    async def _start_api_process(self) -> str:
        folder = self._kubeconfigs.people.parent
        args = ["api", "--port", str(self._port)]
        return await (
            await self._stack.enter_async_context(Component("API server", folder, args))
        ).first_line()

    def _stop_all(self) -> None:
        for running in self._running.values():
            if isinstance(running, Component):
                running.end()
            else:
                running.cancel()

    def _folder_of(self, name: str) -> Path:
        return self.folder / name

    # -- VMs ----------------------------------------------------------------------------------

    async def create_vm(
        self,
        ref: VmiRef,
        *,
        slots: Sequence[str] = (),
        memory_mib: int | None = None,
        passthrough: bool = True,
        running: bool = True,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Create a VirtualMachine, and its namespace if need be.

        Args:
            ref: Namespace and name.
            slots: Names of its USB slots.
            memory_mib: Memory; None for the default of the guests.
            passthrough: Whether it has USB slots at all.
            running: Whether it is to run.
            annotations: More annotations of its VMI.
        """
        await self._ensure_namespace(ref.namespace)
        named = {SLOTS_ANNOTATION: ",".join(slots)} if slots else {}
        domain: JsonObject = {"devices": {"clientPassthrough": {}} if passthrough else {}}
        if memory_mib is not None:
            domain["resources"] = {"requests": {"memory": f"{memory_mib}Mi"}}
        template = {
            "metadata": {"annotations": named | dict(annotations or {})},
            "spec": {"architecture": "amd64", "domain": domain},
        }
        await self.client.create(
            Collection.VMS.of(ref.namespace),
            {
                "apiVersion": objects.KUBEVIRT_API,
                "kind": "VirtualMachine",
                "metadata": {"name": ref.name, "namespace": ref.namespace},
                "spec": {"runStrategy": "Always" if running else "Halted", "template": template},
            },
        )

    async def delete_vm(self, ref: VmiRef) -> None:
        """Delete a VirtualMachine; returns when it is gone, and its VMI, too."""
        await self.client.delete(f"{Collection.VMS.of(ref.namespace)}/{ref.name}")
        await self.until(lambda: not self.exists(ref), f"VM {ref} is gone")

    def exists(self, ref: VmiRef) -> bool:
        """Return whether there is a VirtualMachine or a VMI: the one goes after the other."""
        kinds = (Collection.VMS, Collection.VMIS)
        return any(self.cache.get(kind, ref.namespace, ref.name) is not None for kind in kinds)

    def vmi(self, ref: VmiRef) -> JsonObject | None:
        """Return a VMI as it is now; None if there is none."""
        return self.cache.get(Collection.VMIS, ref.namespace, ref.name)

    async def wait_vmi(self, ref: VmiRef, condition: Callable[[JsonObject], object]) -> JsonObject:
        """Wait until something is so for a VMI, and return it."""

        def found() -> JsonObject | None:
            vmi = self.vmi(ref)
            return vmi if vmi is not None and condition(vmi) else None

        return await self.until(found, f"VMI {ref} is as it should be")

    async def wait_running(self, ref: VmiRef) -> JsonObject:
        """Wait until a VMI runs, and return it."""
        return await self.wait_vmi(ref, lambda vmi: objects.phase(vmi) == "Running")

    def console_log(self, ref: VmiRef) -> Sequence[Path]:
        """Return all that the guest of a VMI printed: a file for each launcher, in order."""
        vmi = self.vmi(ref)
        if vmi is None:
            return ()
        begun = self._logs.setdefault(objects.uid(vmi), {})
        for pod, node in (objects.status(vmi).get("activePods") or {}).items():
            if pod in begun or not node:
                continue
            launcher = self._folder_of(node) / "pods" / pod / "run" / "kubevirt-private"
            log = launcher / objects.uid(vmi) / sockets.CONSOLE_LOG
            if log.exists():
                # That folder is written to once, when the launcher begins.
                begun[pod] = (launcher.stat().st_mtime_ns, log)
        return [log for _, log in sorted(begun.values())]

    # -- migrations ---------------------------------------------------------------------------

    async def migrate(
        self,
        ref: VmiRef,
        hold_at: Step | None = None,
        *,
        node_selector: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Move:
        """Ask for a live migration of a VMI.

        Args:
            ref: Which.
            hold_at: Step at which it is held from the start.
            node_selector: Labels that the target node must have.
            annotations: More annotations of the migration object.
        """
        metadata: JsonObject = {
            "generateName": "kubevirt-migrate-vm-",
            "namespace": ref.namespace,
        }
        held = {timeline.HOLD_AT: str(hold_at)} if hold_at is not None else {}
        if annotated := held | dict(annotations or {}):
            metadata["annotations"] = annotated
        spec: JsonObject = {"vmiName": ref.name}
        if node_selector:
            spec["addedNodeSelector"] = dict(node_selector)
        vmim = await self.client.create(
            Collection.VMIMS.of(ref.namespace),
            {
                "apiVersion": objects.KUBEVIRT_API,
                "kind": "VirtualMachineInstanceMigration",
                "metadata": metadata,
                "spec": spec,
            },
        )
        self.cache.learn(Collection.VMIMS, vmim)
        return Move(self.client, self.cache, vmim)

    async def crash(self, ref: VmiRef, field: str) -> None:
        """Kill the guest of a migration: that of ``sourcePod`` or of ``targetPod``."""
        vmi = self.vmi(ref)
        pod = objects.migration_state(vmi or {}).get(field)
        if pod is None:
            raise LabError(f"VMI {ref} has no {field}")
        change = {"metadata": {"annotations": {objects.LAB_CRASH: "now"}}}
        await self.client.patch(f"{Collection.PODS.of(ref.namespace)}/{pod}", change)

    # -- waiting ------------------------------------------------------------------------------

    def _handler_of(self, node: str) -> JsonObject | None:
        name = f"{objects.HANDLER}-{node}"
        return self.cache.get(Collection.PODS, objects.KUBEVIRT_NAMESPACE, name)

    async def until(self, find: Callable[[], Found | None], what: str) -> Found:
        """Wait until ``find`` finds something, asking again at each change of an object.

        Raises:
            LabError: If it does not within a minute; ``what`` says what was waited for.
        """
        try:
            async with asyncio.timeout(WAIT_TIMEOUT_S):
                return await self.cache.until(find)
        except TimeoutError as exc:
            raise LabError(f"it is not true in time that {what}") from exc

    async def _ensure_namespace(self, name: str) -> None:
        try:
            await self.client.create("/api/v1/namespaces", {"metadata": {"name": name}})
        except StatusError as error:
            if error.status != CONFLICT:
                raise


def _arguments(endpoint: Endpoint) -> Sequence[str]:
    assert endpoint.server is not None
    return ["--server", endpoint.server, "--kubeconfig", str(endpoint.kubeconfig)]
