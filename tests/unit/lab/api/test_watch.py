from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from kubectl_vmredir.lab.api.objects import Json
from kubectl_vmredir.lab.api.resources import NODES, PODS
from kubectl_vmredir.lab.api.selectors import Selection
from kubectl_vmredir.lab.api.store import Store
from kubectl_vmredir.lab.api.watch import LAST_BOOKMARK_S, Scope, WatchOptions, events

DEMO = Scope(PODS, "demo", Selection())


def pod(name: str, namespace: str = "demo") -> Json:
    return {"metadata": {"name": name, "namespace": namespace}}


def options(version: int = 0, *, bookmarks: bool = False, timeout_s: float = 10.0) -> WatchOptions:
    return WatchOptions(version, bookmarks, timeout_s, initial_events=version == 0)


async def seen(source: AsyncIterator[Json]) -> tuple[str, str]:
    async with asyncio.timeout(1):
        event = await anext(source)
    return event["type"], event["object"]["metadata"].get("name", "")


async def test_what_was_written_while_an_event_was_on_its_way_is_told_next() -> None:
    store = Store()
    store.put(PODS, pod("a"))
    async with aclosing(events(store, DEMO, options())) as source:
        assert await seen(source) == ("ADDED", "a")
        store.put(PODS, pod("b"))
        store.remove(PODS, "demo", "a")

        assert await seen(source) == ("ADDED", "b")
        assert await seen(source) == ("DELETED", "a")


async def test_other_resources_and_namespaces_are_out_of_sight() -> None:
    store = Store()
    async with aclosing(events(store, DEMO, options(store.version))) as source:
        store.put(NODES, {"metadata": {"name": "node1"}})
        store.put(PODS, pod("a", "other"))
        store.put(PODS, pod("a"))

        assert await seen(source) == ("ADDED", "a")


async def test_a_bookmark_never_runs_ahead_of_what_was_told() -> None:
    store = Store()
    timeout_s = LAST_BOOKMARK_S + 0.05
    source = events(store, DEMO, options(store.version, bookmarks=True, timeout_s=timeout_s))
    told = []
    async with aclosing(source), asyncio.timeout(1):
        store.put(PODS, pod("a"))
        told.append(await anext(source))
        store.put(PODS, pod("b"))
        while told[-1]["type"] != "BOOKMARK":
            told.append(await anext(source))

    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in told]
    assert len(told) == 3
    assert versions == sorted(versions)


async def test_a_watch_that_is_over_at_once_brings_no_bookmark() -> None:
    store = Store()
    source = events(store, DEMO, options(store.version, bookmarks=True, timeout_s=0.05))
    async with aclosing(source), asyncio.timeout(1):
        store.put(PODS, pod("a"))

        assert [event["type"] async for event in source] == ["ADDED"]


async def test_a_watcher_that_is_too_slow_for_the_ring_is_told() -> None:
    store = Store(history_changes=2)
    store.put(PODS, pod("a"))
    async with aclosing(events(store, DEMO, options())) as source:
        await seen(source)
        for name in ("b", "c", "d"):
            store.put(PODS, pod(name))
        event = await anext(source)

        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        with pytest.raises(StopAsyncIteration):
            await anext(source)


async def test_a_watch_ends_at_its_time_however_much_is_written() -> None:
    store = Store()
    source = events(store, DEMO, options(store.version, timeout_s=0.05))
    count = 0
    async with aclosing(source), asyncio.timeout(5):
        store.put(PODS, pod("a"))
        async for _ in source:
            count += 1
            store.put(PODS, {**pod("a"), "count": count})
            await asyncio.sleep(0)

    assert count > 1
