"""The time limits of a watch, on a clock that jumps."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import pytest

from kubectl_vmredir.backoff import exponential_backoff
from kubectl_vmredir.errors import Forbidden
from kubectl_vmredir.k8s.client import LONGEST_DELAY_S, KubeClient
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig
from kubectl_vmredir.k8s.objects import EventType, WatchEvent
from tests.support.api_client import listing, query, thing
from tests.support.scripted_server import Exchange, Script, ScriptedServer
from tests.support.virtual_clock import VirtualClockLoop

Scenario = Callable[[AsyncGenerator[WatchEvent, None], ScriptedServer], Awaitable[None]]


def play(watching: Script, scenario: Scenario, listing_one: Script | None = None) -> None:
    """Run a scenario with a watch of one thing; the first list is always answered."""
    lists = 0

    async def script(exchange: Exchange) -> None:
        nonlocal lists
        if "watch" in query(exchange):
            await watching(exchange)
            return
        lists += 1
        if lists > 1 and listing_one is not None:
            await listing_one(exchange)
        else:
            await exchange.answer(200, listing(thing("a"), version=5))

    async def run() -> None:
        async with (
            ScriptedServer(script) as server,
            KubeClient(ClusterConfig(server.url)) as client,
            aclosing(client.watch("/things")) as events,
        ):
            assert (await anext(events)).type is EventType.ADDED
            assert (await anext(events)).type is EventType.LISTED
            await scenario(events, server)

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(run())


async def cut(exchange: Exchange) -> None:
    await exchange.start_watch()
    exchange.cut()


def test_silence_for_longer_than_a_bookmark_may_take_ends_a_watch() -> None:
    async def silent_at_first(exchange: Exchange) -> None:
        await exchange.start_watch()
        if len(watches) < 1:
            watches.append(exchange)
            await exchange.read_to_end()
        else:
            await exchange.event("MODIFIED", thing("a", 6))

    async def scenario(events: AsyncGenerator[WatchEvent, None], server: ScriptedServer) -> None:
        started_at = asyncio.get_running_loop().time()
        event = await anext(events)
        waited_s = asyncio.get_running_loop().time() - started_at

        # It was long open, so its end is not worth a word; the next one was there at once.
        assert event.type is EventType.MODIFIED
        assert 74 < waited_s < 76
        assert query(server.requests[2])["resourceVersion"] == "5"

    watches: list[Exchange] = []
    play(silent_at_first, scenario)


def test_watch_that_is_not_answered_is_a_loss_after_15_seconds() -> None:
    async def unanswered(exchange: Exchange) -> None:
        await exchange.read_to_end()

    async def scenario(events: AsyncGenerator[WatchEvent, None], _server: ScriptedServer) -> None:
        started_at = asyncio.get_running_loop().time()

        assert (await anext(events)).type is EventType.LOST
        assert 14 < asyncio.get_running_loop().time() - started_at < 16

    play(unanswered, scenario)


def test_tries_come_less_and_less_often() -> None:
    times: list[float] = []

    async def refused(exchange: Exchange) -> None:
        times.append(asyncio.get_running_loop().time())
        await exchange.answer(200 if len(times) == 10 else 503, listing())

    async def scenario(events: AsyncGenerator[WatchEvent, None], _server: ScriptedServer) -> None:
        assert (await anext(events)).type is EventType.LOST
        assert (await anext(events)).type is EventType.DELETED
        assert (await anext(events)).type is EventType.LISTED

        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert 0.4 <= gaps[0] <= 0.51
        assert 5 <= gaps[-1] <= 6.3

    play(cut, scenario, refused)


def test_refusal_that_stays_is_believed_after_a_minute() -> None:
    async def refused(exchange: Exchange) -> None:
        await exchange.answer(403, b"no")

    async def scenario(events: AsyncGenerator[WatchEvent, None], _server: ScriptedServer) -> None:
        started_at = asyncio.get_running_loop().time()

        assert (await anext(events)).type is EventType.LOST
        with pytest.raises(Forbidden):
            await anext(events)
        assert 60 < asyncio.get_running_loop().time() - started_at < 68

    play(cut, scenario, refused)


def test_backoff_doubles_to_5_seconds_with_jitter() -> None:
    delays = exponential_backoff(LONGEST_DELAY_S)

    for expected_s in (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
        assert expected_s <= next(delays) <= expected_s * 1.25
