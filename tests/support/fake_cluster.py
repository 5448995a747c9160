"""A cluster of a test: it tells what the test says, when the test says it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from kubectl_vmredir.errors import ClusterError, VmiNotFound
from kubectl_vmredir.model import (
    Identity,
    MigrationUid,
    MigrationView,
    VmimView,
    VmiRef,
    VmiUid,
    VmiView,
)
from kubectl_vmredir.service.ports import (
    ClusterEvent,
    VmiGone,
    VmimGone,
    VmimSeen,
    VmiSeen,
    WatchLost,
    WatchRestored,
)
from kubectl_vmredir.service.slot_names import all_slot_names

ALICE = Identity("alice", "1000")
SLOTS = ("flash", "key", "usb2", "usb3")


def running(name: str = "fedora", node: str = "node1") -> VmiView:
    return VmiView(
        VmiRef("demo", name),
        VmiUid(f"uid-{name}"),
        phase="Running",
        node=node,
        client_passthrough=True,
        slots=SLOTS,
    )


class FakeCluster:
    """VMIs and their migrations.

    Attributes:
        me: Who the user is; an error is raised instead of said.
        watches: How often a watch was begun.
        reachable: Whether a watch that begins tells anything.
        trouble: Raised when a VMI is asked for.
        login_s: How long it takes to get credentials.
    """

    def __init__(self, *vmis: VmiView) -> None:
        self.me: Identity | ClusterError = ALICE
        self.watches = 0
        self.reachable = True
        self.trouble: ClusterError | None = None
        self.login_s = 0.0
        self._behind = False
        self._kept: list[ClusterEvent | ClusterError] = []
        self._vmis = {vmi.ref: vmi for vmi in vmis}
        self._vmims: dict[MigrationUid, VmimView] = {}
        self._queues: list[asyncio.Queue[ClusterEvent | ClusterError]] = []

    @property
    def default_namespace(self) -> str:
        return "demo"

    @property
    def open_watches(self) -> int:
        """How many watches there are now."""
        return len(self._queues)

    def tell(self, *events: ClusterEvent) -> None:
        """Change something, and tell all who watch."""
        for event in events:
            match event:
                case VmiSeen(vmi=vmi):
                    self._vmis[vmi.ref] = vmi
                case VmiGone(vmi=vmi):
                    del self._vmis[vmi.ref]
                case VmimSeen(vmim=vmim):
                    self._vmims[vmim.uid] = vmim
                case VmimGone(vmim=vmim):
                    del self._vmims[vmim.uid]
                case _:
                    pass
            self._put(event)

    def lose_watch(self, cause: ClusterError) -> None:
        self._put(WatchLost(cause))

    def restore_watch(self) -> None:
        self._put(WatchRestored())

    def break_watch(self, error: ClusterError) -> None:
        """End all watches by an error that waiting does not cure."""
        self._put(error)

    def fall_behind(self) -> None:
        """Keep back what the watches are to be told."""
        self._behind = True

    def catch_up(self) -> None:
        """Tell the watches what was kept back."""
        self._behind = False
        kept, self._kept = self._kept, []
        for item in kept:
            self._put(item)

    def _put(self, item: ClusterEvent | ClusterError) -> None:
        if self._behind:
            self._kept.append(item)
            return
        for queue in self._queues:
            queue.put_nowait(item)

    async def vmis(self, namespace: str | None, selector: str = "") -> Sequence[VmiView]:
        return [vmi for vmi in self._vmis.values() if namespace in (None, vmi.ref.namespace)]

    async def ready(self) -> None:
        await asyncio.sleep(self.login_s)

    async def vmi(self, ref: VmiRef) -> VmiView:
        if self.trouble is not None:
            raise self.trouble
        if (vmi := self._vmis.get(ref)) is None:
            raise VmiNotFound(ref)
        return vmi

    def watch(
        self, namespace: str, vmi: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[ClusterEvent]]:
        vmis = [
            VmiSeen(known)
            for known in self._vmis.values()
            if known.ref.namespace == namespace and vmi in (None, known.ref.name)
        ]
        return self._watch([*vmis, *map(VmimSeen, self._vmims.values())])

    def watch_vmis(
        self, namespace: str | None, selector: str = ""
    ) -> AbstractAsyncContextManager[AsyncIterator[ClusterEvent]]:
        return self._watch(
            [
                VmiSeen(known)
                for known in self._vmis.values()
                if namespace in (None, known.ref.namespace)
            ]
        )

    @asynccontextmanager
    async def _watch(
        self, known: Sequence[ClusterEvent]
    ) -> AsyncIterator[AsyncIterator[ClusterEvent]]:
        queue: asyncio.Queue[ClusterEvent | ClusterError] = asyncio.Queue()
        self.watches += 1
        if self.reachable:
            for event in known:
                queue.put_nowait(event)
            queue.put_nowait(WatchRestored())
        self._queues.append(queue)
        try:
            yield self._events(queue)
        finally:
            self._queues.remove(queue)

    @staticmethod
    async def _events(
        queue: asyncio.Queue[ClusterEvent | ClusterError],
    ) -> AsyncIterator[ClusterEvent]:
        while True:
            item = await queue.get()
            if isinstance(item, ClusterError):
                raise item
            yield item

    async def migrate(self, ref: VmiRef) -> VmimView:
        vmim = VmimView(ref.namespace, "kubevirt-migrate-vm-x", MigrationUid("asked"), ref.name)
        self.tell(VmimSeen(vmim))
        return vmim

    async def may_migrate(self, namespace: str) -> bool:
        return namespace == "demo"

    async def name_slots(self, ref: VmiRef, names: Sequence[str]) -> bool:
        vmi = await self.vmi(ref)
        self.tell(VmiSeen(dataclasses.replace(vmi, slots=all_slot_names(names))))
        return True

    async def vmi_yaml(self, ref: VmiRef) -> str:
        return f"name: {(await self.vmi(ref)).ref.name}\n"

    async def identity(self) -> Identity:
        await self.ready()
        if isinstance(self.me, ClusterError):
            raise self.me
        return self.me


STEPS = (
    "announced",
    "handed off",
    "copying",
    "target detected",
    "target ready",
    "node flipped",
    "completed",
    "succeeded",
)


class Migration:
    """One migration of one VMI, which goes on step by step as the test says.

    Args:
        cluster: Told of each step.
        vmi: The VMI as it is before.
        target: Node that it goes to.
        uid: Names the migration.
    """

    def __init__(
        self, cluster: FakeCluster, vmi: VmiView, target: str = "node2", uid: str = "m1"
    ) -> None:
        self._cluster = cluster
        self._vmi = vmi
        self._vmim = VmimView(vmi.ref.namespace, f"migrate-{uid}", MigrationUid(uid), vmi.ref.name)
        self._view = MigrationView(MigrationUid(uid), source_node=vmi.node, target_node=target)
        self._done = 0

    @property
    def vmi(self) -> VmiView:
        """The VMI as it is now."""
        return self._vmi

    def go_to(self, last: str) -> None:
        """Take all steps up to one, that one included."""
        while self._done <= STEPS.index(last):
            self._take(STEPS[self._done])
            self._done += 1

    def fail(self) -> None:
        """Break off: the VM stays where it is."""
        self._change(failed=True, completed=True, failure_reason="the target died")

    def _take(self, step: str) -> None:
        match step:
            case "announced":
                self._cluster.tell(VmimSeen(self._vmim))
            case "handed off":
                self._change()
            case "copying":
                self._change(start_timestamp="t1", mode="PreCopy")
            case "target detected":
                self._change(target_domain_detected=True)
            case "target ready":
                self._change(target_domain_ready_timestamp="t2")
            case "node flipped":
                self._vmi = dataclasses.replace(self._vmi, node=self._view.target_node)
                self._change(end_timestamp="t3")
            case "completed":
                self._change(completed=True)
            case _:
                vmim = dataclasses.replace(self._vmim, phase="Succeeded")
                self._cluster.tell(VmimSeen(vmim))

    def _change(self, **changes: object) -> None:
        self._view = dataclasses.replace(self._view, **changes)  # type: ignore[arg-type]
        self._vmi = dataclasses.replace(self._vmi, migration=self._view)
        self._cluster.tell(VmiSeen(self._vmi))
