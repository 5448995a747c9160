"""Hears the service, writes what it hears into the world, and says that it has changed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.backoff import exponential_backoff
from kubectl_vmredir.errors import AgentGone, VmRedirError
from kubectl_vmredir.service.interface import DevicesSeen, Trouble
from kubectl_vmredir.tui.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubectl_vmredir.backoff import BackoffFactory
    from kubectl_vmredir.service.interface import RedirectionService
    from kubectl_vmredir.tui.session import Entrance, Session

STABLE_AFTER_S: Final = 30.0
"""A session that lasted this long has earned a fresh backoff; a shorter one has not."""

QUESTIONS: Final = 64
"""So many namespaces may wait to be asked about; about more it is asked later, if at all."""


class Feed:
    """Keeps a world up to date, for as long as :meth:`run` runs.

    Attributes:
        entrance: The way to sessions.
        world: What is known.
        changed: Called whenever the world has changed; set by whoever draws it.

    Args:
        entrance: The way to sessions.
        read_only: Whether nothing may be changed.
        wall_clock: Returns seconds since the epoch.
        backoff: How long to wait before what failed is tried again.
    """

    def __init__(
        self,
        entrance: Entrance,
        *,
        read_only: bool = False,
        wall_clock: Callable[[], float] = time.time,
        backoff: BackoffFactory = exponential_backoff,
    ) -> None:
        self.entrance = entrance
        self.world = World(read_only=read_only)
        self.changed: Callable[[], None] = _nobody
        self._wall_clock = wall_clock
        self._backoff = backoff
        self._context: str | None = None
        self._context_changed = asyncio.Event()
        self._again = asyncio.Event()
        self._scope_changed = asyncio.Event()
        self._namespaces: asyncio.Queue[str] = asyncio.Queue(QUESTIONS)
        self._asked: set[str] = set()

    def go_to(self, context: str) -> None:
        """Leave the session, and open one with another context of the kubeconfig."""
        self._context = context
        self.world.leave()
        self._context_changed.set()
        self.changed()

    def look_at(self, scope: str | None) -> None:
        """Hear of the VMs of another namespace from now on; of all (None)."""
        self.world.look_at(scope)
        self._scope_changed.set()
        self.changed()

    def look_into(self, namespace: str) -> None:
        """Ask whether the user may migrate VMs of a namespace, unless that was asked before."""
        if namespace not in self._asked and not self._namespaces.full():
            self._asked.add(namespace)
            self._namespaces.put_nowait(namespace)

    def try_again(self) -> None:
        """Try at once what failed and waits to be tried again."""
        self._asked.clear()
        self._again.set()

    async def run(self) -> None:
        """Keep a session open and hear what it tells, until cancelled; leaving is ending it."""
        while True:
            self._context_changed.clear()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._keep_open(self._context), name="session"),
                    group.create_task(self._look_for_contexts(), name="contexts"),
                ]
                await self._context_changed.wait()
                for task in tasks:
                    task.cancel()

    async def _keep_open(self, context: str | None) -> None:
        loop = asyncio.get_running_loop()
        delays = self._backoff()
        while True:
            opened_at = loop.time()
            try:
                async with self.entrance.open(context) as session:
                    self.world.opened(session)
                    self._asked.clear()
                    self.changed()
                    ended = await self._hear(session)
            except VmRedirError as error:
                ended = error
            if loop.time() - opened_at > STABLE_AFTER_S:
                delays = self._backoff()
            self.world.not_opened(Trouble.of(ended), self._wall_clock())
            self.changed()
            await self._wait(delays)

    async def _look_for_contexts(self) -> None:
        with contextlib.suppress(VmRedirError):  # opening a session says it
            found = await asyncio.to_thread(self.entrance.contexts)
            self.world.contexts = tuple(found)
            self.changed()

    async def _hear(self, session: Session) -> VmRedirError:
        """Hear what a session tells; return why it does not any more."""
        async with asyncio.TaskGroup() as group:
            others = [
                group.create_task(self._hear_of_vmis(session.service), name="vmis"),
                group.create_task(self._hear_of_devices(session.service), name="devices"),
                group.create_task(self._ask_what_is_allowed(session.service), name="allowed"),
            ]
            ended = await self._hear_of_redirections(session.service)
            for task in others:
                task.cancel()
        return ended

    async def _hear_of_redirections(self, service: RedirectionService) -> VmRedirError:
        try:
            async with service.subscribe(numbers=True) as changes:
                async for change in changes:
                    self.world.hear(change, self._wall_clock())
                    self.changed()
        except VmRedirError as error:
            return error
        return AgentGone("the agent has ended")

    async def _hear_of_vmis(self, service: RedirectionService) -> None:
        while True:
            self._scope_changed.clear()
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch_vmis(service), name="watch-vmis")
                await self._scope_changed.wait()
                watch.cancel()

    async def _watch_vmis(self, service: RedirectionService) -> None:
        """Hear of the VMs of one scope, until cancelled."""
        delays = self._backoff()
        while True:
            try:
                async with service.watch_vmis(self.world.scope) as news:
                    async for item in news:
                        self.world.hear_of_vmis(item, self._wall_clock())
                        self.changed()
                        delays = self._backoff()
            except VmRedirError as error:
                self.world.vmis_lost(Trouble.of(error), self._wall_clock())
                self.changed()
            await self._wait(delays)

    async def _hear_of_devices(self, service: RedirectionService) -> None:
        delays = self._backoff()
        while True:
            try:
                async with service.watch_devices() as seen:
                    async for item in seen:
                        self.world.devices_seen(item, self._wall_clock())
                        self.changed()
                        delays = self._backoff()
            except VmRedirError as error:
                unseen = DevicesSeen((), Trouble.of(error))
                self.world.devices_seen(unseen, self._wall_clock())
                self.changed()
            await self._wait(delays)

    async def _ask_what_is_allowed(self, service: RedirectionService) -> None:
        while True:
            namespace = await self._namespaces.get()
            # Where nobody can tell it is let to the cluster to refuse.
            with contextlib.suppress(VmRedirError):
                self.world.may_migrate[namespace] = await service.may_migrate(namespace)
                self.changed()

    async def _wait(self, delays: Iterator[float]) -> None:
        """Wait before the next try, unless the user cannot."""
        self._again.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(next(delays)):
                await self._again.wait()


def _nobody() -> None:
    """Nobody draws the world yet."""
