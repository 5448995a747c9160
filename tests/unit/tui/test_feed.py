from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from kubectl_vmredir.errors import ClusterUnreachable, KubeconfigError
from kubectl_vmredir.tui.feed import Feed
from kubectl_vmredir.tui.session import Session
from kubectl_vmredir.tui.world import World
from tests.support.scripted_service import NOON, STICK, TOKEN, ScriptedService, session_of


class Follower:
    """Runs a feed, and waits for what becomes of its world."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._changed = asyncio.Event()
        feed.changed = self._changed.set

    async def until(self, condition: Callable[[World], object]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(1):
            while not condition(self._feed.world):
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def followed(feed: Feed) -> AsyncIterator[Follower]:
    follower = Follower(feed)
    async with asyncio.TaskGroup() as group:
        hearing = group.create_task(feed.run())
        yield follower
        hearing.cancel()


def a_feed(service: ScriptedService) -> Feed:
    return Feed(
        lambda: session_of(service),
        wall_clock=lambda: NOON,
        backoff=lambda: itertools.repeat(0.0),
        devices_every_s=0.0,
    )


async def test_a_device_is_seen_without_anybody_asking_for_it() -> None:
    service = ScriptedService()
    service.plugged = ()
    feed = a_feed(service)

    async with followed(feed) as follower:
        service.plugged = (STICK,)
        await follower.until(lambda world: world.devices)

    assert feed.world.devices == (STICK,)


async def test_what_fails_is_tried_again_by_itself() -> None:
    service = ScriptedService()
    service.there = ClusterUnreachable("no answer")
    feed = a_feed(service)

    async with followed(feed) as follower:
        await follower.until(lambda world: world.vmis_bad)
        service.there = ()
        service.plugged = (TOKEN,)
        await follower.until(lambda world: world.devices and world.vmis_bad is None)

    assert feed.world.vmis == {}


async def test_a_session_is_opened_again_until_it_opens() -> None:
    service = ScriptedService()
    errors = [KubeconfigError("broken"), KubeconfigError("broken still")]

    @asynccontextmanager
    async def opener() -> AsyncIterator[Session]:
        if errors:
            raise errors.pop()
        async with session_of(service) as session:
            yield session

    feed = Feed(opener, backoff=lambda: itertools.repeat(0.0), devices_every_s=3600.0)
    async with followed(feed) as follower:
        await follower.until(lambda world: world.session and world.vmis and world.devices)

    assert errors == []
    assert feed.world.unopened is None


async def test_the_session_is_left_at_the_end() -> None:
    service = ScriptedService()
    left: list[bool] = []

    @asynccontextmanager
    async def opener() -> AsyncIterator[Session]:
        async with session_of(service) as session:
            try:
                yield session
            finally:
                left.append(True)

    async with followed(Feed(opener, devices_every_s=3600.0)) as follower:
        await follower.until(lambda world: world.vmis)
        assert not left

    assert left == [True]
