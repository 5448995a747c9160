from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from kubectl_vmredir.errors import AgentGone, ClusterUnreachable, KubeconfigError
from kubectl_vmredir.tui.feed import Feed
from kubectl_vmredir.tui.session import Entrance, Session
from kubectl_vmredir.tui.world import World
from tests.support.scripted_service import NOON, STICK, VMIS, ScriptedService, entrance_to


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
        entrance_to(service),
        wall_clock=lambda: NOON,
        backoff=lambda: itertools.repeat(0.0),
    )


async def test_a_device_is_seen_without_anybody_asking_for_it() -> None:
    service = ScriptedService()
    service.plugged = ()
    feed = a_feed(service)

    async with followed(feed) as follower:
        await follower.until(lambda world: world.devices is not None)
        service.plug(STICK)
        await follower.until(lambda world: world.devices)

    assert feed.world.devices == (STICK,)


async def test_what_fails_is_tried_again_by_itself() -> None:
    service = ScriptedService()
    service.there = ClusterUnreachable("no answer")
    feed = a_feed(service)

    async with followed(feed) as follower:
        await follower.until(lambda world: world.vmis_bad)
        service.there = ()
        await follower.until(lambda world: world.vmis == {} and world.vmis_bad is None)


async def test_a_session_is_opened_again_until_it_opens() -> None:
    service = ScriptedService()
    errors = [KubeconfigError("broken"), KubeconfigError("broken still")]

    async def before() -> None:
        if errors:
            raise errors.pop()

    feed = Feed(entrance_to(service, before=before), backoff=lambda: itertools.repeat(0.0))
    async with followed(feed) as follower:
        await follower.until(lambda world: world.session and world.vmis and world.devices)

    assert errors == []
    assert feed.world.unopened is None


async def test_the_session_is_left_at_the_end() -> None:
    service = ScriptedService()
    left: list[bool] = []

    usual = entrance_to(service)

    @asynccontextmanager
    async def opener(context: str | None) -> AsyncIterator[Session]:
        async with usual.open(context) as session:
            try:
                yield session
            finally:
                left.append(True)

    async with followed(Feed(Entrance(opener))) as follower:
        await follower.until(lambda world: world.vmis)
        assert not left

    assert left == [True]


async def test_a_session_that_is_lost_is_opened_again_with_all_that_it_tells() -> None:
    service = ScriptedService()
    feed = a_feed(service)
    async with followed(feed) as follower:
        await follower.until(lambda world: world.vmis and world.devices)
        service.there = VMIS[:1]
        service.go(AgentGone("the agent has gone away"))
        await follower.until(lambda world: world.session and len(world.vmis or ()) == 1)

    assert feed.world.unopened is None


async def test_another_context_is_another_session() -> None:
    service = ScriptedService()
    feed = a_feed(service)
    async with followed(feed) as follower:
        await follower.until(lambda world: world.session and world.contexts)
        feed.go_to("prod")
        assert feed.world.session is None
        await follower.until(lambda world: world.session and world.vmis)

    assert feed.world.session is not None
    assert feed.world.session.context == "prod"


async def test_it_is_asked_once_whether_vms_may_be_migrated() -> None:
    service = ScriptedService()
    service.may = ClusterUnreachable("no answer")
    feed = a_feed(service)
    async with followed(feed) as follower:
        await follower.until(lambda world: world.session)
        feed.look_into("demo")
        feed.look_into("prod")
        feed.look_into("prod")
        await follower.until(lambda world: world.vmis)
        assert feed.world.may_migrate == {}

        service.may = False
        feed.try_again()
        feed.look_into("demo")
        await follower.until(lambda world: world.may_migrate)

    assert feed.world.may_migrate == {"demo": False}
