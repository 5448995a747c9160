from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kubectl_vmredir.errors import Forbidden, LoginRequired
from kubectl_vmredir.model import VmiRef
from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.ports import ClusterEvent, VmiSeen
from kubectl_vmredir.service.watching import PERSON_FACTOR, ClusterWatcher
from tests.support.fake_cluster import FakeCluster, running
from tests.support.service_world import FEDORA, RETRY_S, steady_backoff
from tests.support.virtual_clock import after, at_rest


@asynccontextmanager
async def a_watcher(cluster: FakeCluster) -> AsyncIterator[ClusterWatcher]:
    async with asyncio.TaskGroup() as group:
        watcher = ClusterWatcher(cluster, group, backoff=steady_backoff)
        yield watcher
        watcher.cancel()


async def test_vmi_is_watched_while_somebody_follows_it() -> None:
    cluster = FakeCluster(running())
    async with a_watcher(cluster) as watcher:
        with watcher.follow(FEDORA, Bell()):
            with watcher.follow(FEDORA, Bell()):
                await at_rest()
                assert watcher.facts(FEDORA).vmi == running()
            assert cluster.watches == 1
            assert watcher.facts(FEDORA).vmi == running()

        assert watcher.facts(FEDORA).vmi is None
        assert watcher.restorations(FEDORA) == 0


async def test_bells_of_one_vmi_are_rung_and_no_others() -> None:
    loop = asyncio.get_running_loop()
    cluster = FakeCluster(running(), running("win11"))
    bell, other = Bell(), Bell()
    async with a_watcher(cluster) as watcher:
        with watcher.follow(FEDORA, bell), watcher.follow(VmiRef("demo", "win11"), other):
            await at_rest()
            for idle in (bell, other):
                await idle.wait(loop.time())
            begun = loop.time()

            watcher.ring(FEDORA)
            watcher.ring(VmiRef("demo", "nobody"))

            await bell.wait(begun + 1)
            assert loop.time() == begun
            await other.wait(begun + 1)
            assert loop.time() == begun + 1


async def test_watch_that_breaks_for_good_is_begun_again_after_a_while() -> None:
    cluster = FakeCluster(running())
    async with a_watcher(cluster) as watcher:
        with watcher.follow(FEDORA, Bell()):
            await at_rest()
            cluster.break_watch(Forbidden("no more"))
            await at_rest()
            assert watcher.facts(FEDORA).doubt == "no more"
            assert watcher.facts(FEDORA).certain_at is None

            await after(RETRY_S * PERSON_FACTOR - 0.01)
            assert cluster.watches == 1
            await after(0.02)

            assert watcher.facts(FEDORA).certain(asyncio.get_running_loop().time() + 1)
            assert watcher.restorations(FEDORA) == 2


async def test_watch_that_breaks_for_good_is_begun_again_at_once_when_somebody_has_acted() -> None:
    cluster = FakeCluster(running())
    async with a_watcher(cluster) as watcher:
        with watcher.follow(FEDORA, Bell()):
            await at_rest()
            watcher.try_again(FEDORA)
            await at_rest()
            assert cluster.watches == 1
            cluster.break_watch(LoginRequired("expired"))
            await at_rest()
            assert watcher.trouble(FEDORA) is not None

            watcher.try_again(FEDORA)
            watcher.try_again(VmiRef("demo", "nobody"))
            assert watcher.trouble(FEDORA) is None
            await at_rest()

            assert cluster.watches == 2
            await after(RETRY_S * PERSON_FACTOR)
            assert cluster.watches == 2


async def test_watch_with_a_bug_leaves_its_vm_unknown_and_says_so() -> None:
    class Broken(FakeCluster):
        @asynccontextmanager
        async def watch(
            self, namespace: str, vmi: str | None = None
        ) -> AsyncIterator[AsyncIterator[ClusterEvent]]:
            raise ZeroDivisionError("a bug")
            yield

    async with a_watcher(Broken()) as watcher:
        with watcher.follow(FEDORA, Bell()):
            await at_rest()

            assert watcher.facts(FEDORA).certain_at is None
            assert watcher.facts(FEDORA).doubt == "internal error: ZeroDivisionError('a bug')"


async def test_watch_that_just_ends_is_begun_again() -> None:
    class Short(FakeCluster):
        @asynccontextmanager
        async def watch(
            self, namespace: str, vmi: str | None = None
        ) -> AsyncIterator[AsyncIterator[ClusterEvent]]:
            self.watches += 1

            async def only_one() -> AsyncIterator[ClusterEvent]:
                yield VmiSeen(running())

            yield only_one()

    cluster = Short()
    async with a_watcher(cluster) as watcher:
        with watcher.follow(FEDORA, Bell()):
            await after(2 * RETRY_S + 0.01)

            assert cluster.watches == 3
            assert watcher.facts(FEDORA).doubt == "the watch ended"
