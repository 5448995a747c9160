"""A service in a world of fakes, and the words in which tests speak of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kubectl_vmredir.backoff import BackoffFactory
from kubectl_vmredir.model import (
    DeviceSelector,
    RedirectionId,
    RedirectionState,
    VmiRef,
    VmiView,
)
from kubectl_vmredir.service.gate import RULES, Rule
from kubectl_vmredir.service.interface import BindRequest, Handover, RedirectionStatus, StoryEvent
from kubectl_vmredir.service.service import Service
from tests.support.fake_cluster import FakeCluster, Migration, running
from tests.support.fake_usb import FakeDevices, device
from tests.support.scripted_dialer import FakeLink, ScriptedDialer
from tests.support.virtual_clock import VirtualClockLoop, at_rest

RETRY_S = 0.2
"""Delay of every retry of the worlds."""

FEDORA = VmiRef("demo", "fedora")
STICK = DeviceSelector.parse("1234:5678:STICK1")


async def in_this_process(service: Service) -> Service:
    return service


reach: Callable[[Service], Awaitable[Service]] = in_this_process
"""How the tests reach the service of a world."""


def steady_backoff() -> Iterator[float]:
    return itertools.repeat(RETRY_S)


@dataclass(slots=True)
class World:
    """A service, and all that is around it.

    Attributes:
        service: The service, as its users reach it.
        itself: The service as its owner sees it.
    """

    service: Service
    itself: Service
    cluster: FakeCluster
    devices: FakeDevices
    dialer: ScriptedDialer
    background: asyncio.TaskGroup
    """For what a test lets go on while it does something else."""
    sleeps: asyncio.Queue[float]

    async def bind(
        self,
        selector: DeviceSelector = STICK,
        vmi: VmiRef = FEDORA,
        slot: str | None = None,
        *,
        force: bool = False,
        allow_keyboard: bool = False,
    ) -> RedirectionId:
        """Bind, and let everything happen that comes of it at once."""
        redirection_id = await self.service.bind(
            BindRequest(selector, vmi, slot, force=force, allow_keyboard=allow_keyboard)
        )
        await at_rest()
        return redirection_id

    async def status(self, redirection_id: RedirectionId) -> RedirectionStatus:
        snapshot = await self.service.snapshot()
        return next(
            view.status for view in snapshot.redirections if view.status.id == redirection_id
        )

    async def all(self) -> list[RedirectionStatus]:
        return [view.status for view in (await self.service.snapshot()).redirections]

    async def state(self, redirection_id: RedirectionId) -> RedirectionState:
        return (await self.status(redirection_id)).state

    async def story(self, redirection_id: RedirectionId) -> Sequence[StoryEvent]:
        snapshot = await self.service.snapshot()
        return next(
            view.story for view in snapshot.redirections if view.status.id == redirection_id
        )

    async def states(self, redirection_id: RedirectionId) -> list[RedirectionState]:
        """Return the states of the story so far, whatever was noted in them."""
        return [
            state
            for state, _ in itertools.groupby(
                event.state for event in await self.story(redirection_id)
            )
        ]

    async def handovers(self, redirection_id: RedirectionId) -> list[Handover]:
        return [event.handover for event in await self.story(redirection_id) if event.handover]

    def migration(self, vmi: VmiView | None = None, uid: str = "m1") -> Migration:
        before = vmi or running()
        return Migration(self.cluster, before, "node2" if before.node == "node1" else "node1", uid)

    @property
    def link(self) -> FakeLink:
        """The latest link."""
        return self.dialer.links[-1]

    @property
    def loop(self) -> VirtualClockLoop:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        return loop

    def suspend(self, seconds: float) -> None:
        """Have the machine sleep; its monotonic clock stands still."""
        self.sleeps.put_nowait(seconds)


@asynccontextmanager
async def a_world(
    *vmis: VmiView,
    rules: Sequence[Rule] = RULES,
    devices: FakeDevices | None = None,
    backoff: BackoffFactory = steady_backoff,
    service: type[Service] = Service,
    shut_down_first: bool = True,
) -> AsyncIterator[World]:
    """Start a service.

    At its end it waits for nobody, unless it is not to be shut down before its context is left.
    """
    cluster = FakeCluster(*(vmis or (running(),)))
    devices = devices or FakeDevices(device())
    dialer = ScriptedDialer()
    sleeps: asyncio.Queue[float] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    opened = service(
        devices,
        cluster,
        dialer,
        rules=rules,
        backoff=backoff,
        wall_clock=loop.time,
        suspends=lambda: _each(sleeps),
    )
    background = asyncio.TaskGroup()
    await background.__aenter__()
    try:
        async with opened:
            yield World(await reach(opened), opened, cluster, devices, dialer, background, sleeps)
            if shut_down_first:
                await opened.shutdown(deadline_s=0)
    finally:
        devices.end()
        # Not `async with`, which would wrap what a test raises.
        await background.__aexit__(None, None, None)


async def _each(sleeps: asyncio.Queue[float]) -> AsyncGenerator[float, None]:
    while True:
        yield await sleeps.get()
