"""The service: puts the parts together and implements the service interface."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Self

from kubectl_vmredir.backoff import exponential_backoff
from kubectl_vmredir.errors import VmRedirError
from kubectl_vmredir.service.binding import Binder
from kubectl_vmredir.service.bulkhead import contained
from kubectl_vmredir.service.changes import Changes
from kubectl_vmredir.service.device_news import news_of_devices
from kubectl_vmredir.service.farewell import Farewell
from kubectl_vmredir.service.gate import RULES, Act
from kubectl_vmredir.service.identity import IdentityCheck
from kubectl_vmredir.service.interface import (
    SHUTDOWN_WAIT_S,
    BindPlan,
    ExitRisk,
    Numbers,
    SlotView,
    Snapshot,
    VmiSlots,
)
from kubectl_vmredir.service.publisher import Publisher
from kubectl_vmredir.service.redirection import Redirection, Surroundings
from kubectl_vmredir.service.sessions import DeviceSessions
from kubectl_vmredir.service.slot_names import check_renaming
from kubectl_vmredir.service.slot_order import SlotOrder
from kubectl_vmredir.service.supervisor import Supervisor
from kubectl_vmredir.service.suspend import suspends
from kubectl_vmredir.service.vmi_news import news_of_vmis
from kubectl_vmredir.service.watching import ClusterWatcher
from kubectl_vmredir.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from kubectl_vmredir.backoff import BackoffFactory
    from kubectl_vmredir.model import DeviceUse, LocalDevice, RedirectionId, VmiRef, VmiView
    from kubectl_vmredir.service.gate import Rule
    from kubectl_vmredir.service.interface import BindRequest, Change, DevicesSeen, VmiNews
    from kubectl_vmredir.service.kept import KeptWish
    from kubectl_vmredir.service.ports import Cluster, DeviceSource, Dialer

logger = logging.getLogger(__name__)


class Service:
    """Redirections in this process; a ``RedirectionService`` and an async context manager.

    Leaving the context is :meth:`shutdown`, and then the end of what is left, whatever the gate
    says: the process ends. Whoever wants to ask the user in between calls :meth:`shutdown`
    before, and leaves the context without an error.

    Args:
        devices: Where the USB devices are.
        cluster: Where the VMs are.
        dialer: Opens links to them.
        rules: Rules of the gate.
        backoff: How long to wait between two tries.
        wall_clock: Returns seconds since the epoch.
        suspends: Tells when the machine has slept, and for how many seconds.
    """

    def __init__(
        self,
        devices: DeviceSource,
        cluster: Cluster,
        dialer: Dialer,
        *,
        rules: Sequence[Rule] = RULES,
        backoff: BackoffFactory = exponential_backoff,
        wall_clock: Callable[[], float] = time.time,
        suspends: Callable[[], AsyncGenerator[float, None]] = suspends,
    ) -> None:
        self._devices = devices
        self._cluster = cluster
        self._dialer = dialer
        self._rules = rules
        self._backoff = backoff
        self._wall_clock = wall_clock
        self._suspends = suspends
        self._publisher = Publisher(self._snapshot, self._numbers)
        self._orders: dict[VmiRef, SlotOrder] = {}
        self._device_changes = Changes()
        self._stack = AsyncExitStack()
        self._background: list[asyncio.Task[None]] = []
        # Made on entry:
        self._watcher: ClusterWatcher
        self._identity: IdentityCheck
        self._supervisor: Supervisor
        self._around: Surroundings
        self._binder: Binder
        self._farewell: Farewell

    async def __aenter__(self) -> Self:
        group = asyncio.TaskGroup()
        self._watcher = ClusterWatcher(
            self._cluster, group, rules=self._rules, backoff=self._backoff
        )
        # Its group goes last: links and devices outlive the tasks that borrow them.
        sessions = await self._stack.enter_async_context(
            DeviceSessions(self._devices, self._watcher.gate, changed=self._device_changes.announce)
        )
        await self._stack.enter_async_context(group)
        self._identity = IdentityCheck(self._cluster, self._ring_all)
        self._supervisor = Supervisor(group, self._watcher, self._publisher.publish)
        self._around = Surroundings(
            devices=self._devices,
            cluster=self._cluster,
            dialer=self._dialer,
            watcher=self._watcher,
            sessions=sessions,
            identity=self._identity,
            order_of=lambda vmi: self._orders.setdefault(vmi, SlotOrder()),
            wishes=self._supervisor.wishes,
            try_out=self._supervisor.try_out,
            backoff=self._backoff,
            publish=self._publisher.publish,
            wall_clock=self._wall_clock,
        )
        self._binder = Binder(self._supervisor, self._around)
        self._farewell = Farewell(self._supervisor, self._watcher.gate, self._publisher.publish)
        self._background = [
            group.create_task(self._identity.keep_asking(), name="identity"),
            group.create_task(self._publisher.sample(), name="sample-numbers"),
            group.create_task(self._follow_devices(), name="devices"),
            group.create_task(self._notice_suspend(), name="suspend"),
        ]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._farewell.begun or exc_type is not None:
            await self.shutdown()
        for task in self._background:
            task.cancel()
        self._supervisor.cancel()
        self._watcher.cancel()
        self._publisher.close()
        # The groups need not know what ended the body: they would wrap it.
        await self._stack.__aexit__(None, None, None)

    # -- the service interface --------------------------------------------------------------

    async def devices(self) -> Sequence[LocalDevice]:
        """See ``RedirectionService.devices``."""
        return await self._devices.devices()

    async def device_use(self, device: LocalDevice) -> DeviceUse:
        """See ``RedirectionService.device_use``."""
        return await self._around.sessions.use(device)

    @asynccontextmanager
    async def watch_devices(self) -> AsyncIterator[AsyncIterator[DevicesSeen]]:
        """See ``RedirectionService.watch_devices``."""
        changes = self._device_changes.follow()
        async with aclosing(news_of_devices(self._devices, changes)) as news:
            yield news

    async def vmis(self, namespace: str | None, selector: str = "") -> Sequence[VmiSlots]:
        """See ``RedirectionService.vmis``."""
        async with aclosing(in_turns(await self._cluster.vmis(namespace, selector))) as vmis:
            return [self._slots_of(vmi) async for vmi in vmis]

    @asynccontextmanager
    async def watch_vmis(
        self, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[AsyncIterator[VmiNews]]:
        """See ``RedirectionService.watch_vmis``."""
        async with (
            self._cluster.watch_vmis(namespace, selector) as events,
            aclosing(news_of_vmis(events, self._slots_of)) as news,
        ):
            yield news

    async def bind(self, request: BindRequest) -> RedirectionId:
        """See ``RedirectionService.bind``."""
        if self._farewell.begun:
            raise VmRedirError("the service is shutting down")
        return await self._binder.bind(request)

    async def plan(self, request: BindRequest) -> BindPlan:
        """See ``RedirectionService.plan``."""
        return await self._binder.plan(request)

    async def confirm(self, redirection_id: RedirectionId) -> None:
        """See ``RedirectionService.confirm``."""
        self._supervisor.confirm(redirection_id)

    async def unbind(self, redirection_id: RedirectionId) -> None:
        """See ``RedirectionService.unbind``."""
        await self._supervisor.end(redirection_id, Act.UNBIND)

    async def pause(self, redirection_id: RedirectionId) -> None:
        """See ``RedirectionService.pause``."""
        await self._supervisor.pause(redirection_id)

    async def resume(self, redirection_id: RedirectionId) -> None:
        """See ``RedirectionService.resume``."""
        self._supervisor.resume(redirection_id)

    async def reconnect(self, redirection_id: RedirectionId) -> None:
        """See ``RedirectionService.reconnect``."""
        self._supervisor.reconnect(redirection_id)

    async def migrate(self, vmi: VmiRef) -> str:
        """See ``RedirectionService.migrate``."""
        return (await self._cluster.migrate(vmi)).name

    async def may_migrate(self, namespace: str) -> bool:
        """See ``RedirectionService.may_migrate``."""
        return await self._cluster.may_migrate(namespace)

    async def name_slots(self, vmi: VmiRef, names: Sequence[str]) -> bool:
        """See ``RedirectionService.name_slots``."""
        check_renaming(vmi, names, self._supervisor.wishes())
        return await self._cluster.name_slots(vmi, names)

    async def vmi_yaml(self, vmi: VmiRef) -> str:
        """See ``RedirectionService.vmi_yaml``."""
        return await self._cluster.vmi_yaml(vmi)

    async def snapshot(self) -> Snapshot:
        """See ``RedirectionService.snapshot``."""
        return self._snapshot()

    def subscribe(
        self, *, numbers: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """See ``RedirectionService.subscribe``."""
        return self._publisher.subscribe(numbers=numbers)

    # -- what outlives the process ----------------------------------------------------------

    def wishes(self) -> tuple[KeptWish, ...]:
        """Return what it takes to go on elsewhere with all that is not being ended."""
        return tuple(redirection.kept for redirection in self._supervisor.lasting())

    def restore(self, kept: KeptWish) -> None:
        """Go on with the redirection of a process that has ended, unless it is there already.

        Nothing is checked now: what is not there yet, or not as it was, is waited for.
        """
        if all(wish.id != kept.wish.id for wish in self._supervisor.wishes()):
            self._supervisor.start(Redirection(kept, self._around))

    # -- the end ----------------------------------------------------------------------------

    async def shutdown(self, deadline_s: float = SHUTDOWN_WAIT_S) -> tuple[ExitRisk, ...]:
        """End all redirections, as far as that harms nobody; see :meth:`Farewell.say`."""
        return await self._farewell.say(deadline_s)

    def exit_risks(self) -> tuple[ExitRisk, ...]:
        """Return what it would break to end the process now."""
        return self._farewell.risks()

    # -- what is known ----------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            tuple(redirection.story.view() for redirection in self._supervisor),
            self._farewell.risks() if self._farewell.begun else None,
        )

    def _numbers(self) -> dict[RedirectionId, Numbers]:
        return {redirection.wish.id: redirection.numbers() for redirection in self._supervisor}

    def _slots_of(self, vmi: VmiView) -> VmiSlots:
        ours = {
            redirection.wish.slot: redirection.wish
            for redirection in self._supervisor
            # The names first: this is asked for each of very many VMs.
            if redirection.wish.vmi.name == vmi.ref.name and redirection.wish.vmi == vmi.ref
        }
        return VmiSlots(
            vmi,
            tuple(
                SlotView(name, ours[name].id, str(ours[name].device))
                if name in ours
                else _free_slot(name)
                for name in vmi.slots
            ),
        )

    # -- what goes on in the background -----------------------------------------------------

    def _ring_all(self) -> None:
        for redirection in self._supervisor:
            redirection.bell.ring()

    async def _follow_devices(self) -> None:
        bug = await contained(self._ring_at_changes(), name="device-changes")
        if bug is not None:
            logger.error("changes of devices are not seen any more", exc_info=bug)

    async def _ring_at_changes(self) -> None:
        async for _ in self._devices.changes():
            self._device_changes.announce()
            for redirection in self._supervisor:
                redirection.devices_changed()

    async def _notice_suspend(self) -> None:
        try:
            async with aclosing(self._suspends()) as suspends:
                async for slept_s in suspends:
                    logger.info("the machine slept for %.0f s: probing every link", slept_s)
                    self._watcher.start_over()
                    self._identity.suggest()
                    for redirection in self._supervisor:
                        redirection.probe()
        except OSError as exc:  # pings find out as well, later
            logger.warning("it will not be noticed if this machine sleeps: %s", exc)


@functools.lru_cache(maxsize=1024)
def _free_slot(name: str) -> SlotView:
    """Return a slot that is for no redirection; most VMs have the same, and share them."""
    return SlotView(name)
