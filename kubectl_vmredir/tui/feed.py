"""Hears the service, writes what it hears into the world, and says that it has changed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.backoff import exponential_backoff
from kubectl_vmredir.errors import VmRedirError
from kubectl_vmredir.service.interface import Trouble
from kubectl_vmredir.tui.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubectl_vmredir.backoff import BackoffFactory
    from kubectl_vmredir.service.interface import RedirectionService
    from kubectl_vmredir.tui.session import Session, SessionOpener

DEVICES_EVERY_S: Final = 1.0
"""How often it is looked which devices are there: the service does not tell."""


class Feed:
    """Keeps a world up to date, for as long as :meth:`run` runs.

    Attributes:
        world: What is known.
        changed: Called whenever the world has changed; set by whoever draws it.

    Args:
        opener: Opens the session.
        wall_clock: Returns seconds since the epoch.
        backoff: How long to wait before what failed is tried again.
        devices_every_s: How often to look for devices.
    """

    def __init__(
        self,
        opener: SessionOpener,
        *,
        wall_clock: Callable[[], float] = time.time,
        backoff: BackoffFactory = exponential_backoff,
        devices_every_s: float = DEVICES_EVERY_S,
    ) -> None:
        self.world = World()
        self.changed: Callable[[], None] = _nobody
        self._opener = opener
        self._wall_clock = wall_clock
        self._backoff = backoff
        self._devices_every_s = devices_every_s
        self._again = asyncio.Event()
        self._scope_changed = asyncio.Event()

    def look_at(self, scope: str | None) -> None:
        """Hear of the VMs of another namespace from now on; of all (None)."""
        self.world.look_at(scope)
        self._scope_changed.set()
        self.changed()

    def try_again(self) -> None:
        """Try at once what failed and waits to be tried again."""
        self._again.set()

    async def run(self) -> None:
        """Open a session and hear what it tells, until cancelled; leaving is ending it."""
        delays = self._backoff()
        while True:
            try:
                async with self._opener() as session:
                    self.world.opened(session)
                    self.changed()
                    await self._hear(session)
                    return
            except VmRedirError as error:
                self.world.not_opened(Trouble.of(error), self._wall_clock())
                self.changed()
            await self._wait(delays)

    async def _hear(self, session: Session) -> None:
        async with asyncio.TaskGroup() as group:
            others = [
                group.create_task(self._hear_of_vmis(session.service), name="vmis"),
                group.create_task(self._look_for_devices(session.service), name="devices"),
            ]
            async with session.service.subscribe(numbers=True) as changes:
                async for change in changes:
                    self.world.hear(change, self._wall_clock())
                    self.changed()
            for task in others:
                task.cancel()

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

    async def _look_for_devices(self, service: RedirectionService) -> None:
        while True:
            try:
                news = self.world.devices_seen(await service.devices())
            except VmRedirError as error:
                news = self.world.devices_unseen(Trouble.of(error), self._wall_clock())
            if news:
                self.changed()
            await asyncio.sleep(self._devices_every_s)

    async def _wait(self, delays: Iterator[float]) -> None:
        """Wait before the next try, unless the user cannot."""
        self._again.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(next(delays)):
                await self._again.wait()


def _nobody() -> None:
    """Nobody draws the world yet."""
