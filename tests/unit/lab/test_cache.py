from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from kubectl_vmredir.k8s.objects import EventType, ListResult, WatchEvent
from kubectl_vmredir.k8s.status import StatusError
from kubectl_vmredir.lab.cache import Cache
from kubectl_vmredir.lab.objects import Collection
from tests.support.lab_objects import vmi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject


class ScriptedClient:
    """A server whose watch says what the test puts into a queue."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self.stored: list[JsonObject] = []

    async def watch(self, path: str, *, params: Mapping[str, Any]) -> AsyncIterator[WatchEvent]:
        assert path == Collection.VMIS
        while True:
            yield await self.events.get()

    async def get(self, path: str) -> JsonObject:
        for obj in self.stored:
            if Collection.VMIS.path(obj) == path:
                return obj
        raise StatusError(404, "NotFound", "not found")

    async def list_all(self, path: str, params: Mapping[str, Any]) -> ListResult[JsonObject]:
        return ListResult(self.stored, "1")


def cache_of(client: ScriptedClient) -> Cache:
    return Cache(cast("KubeClient", client), {Collection.VMIS: {}})


def known(cache: Cache) -> str | None:
    obj = cache.get(Collection.VMIS, "demo", "desk")
    return None if obj is None else str(obj["status"]["phase"])


async def test_it_follows_the_watch() -> None:
    client = ScriptedClient()
    cache = cache_of(client)
    first, second = vmi("Scheduled"), vmi("Running")
    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        watching = group.create_task(cache.run())

        client.events.put_nowait(WatchEvent(EventType.ADDED, first))
        client.events.put_nowait(WatchEvent(EventType.LISTED))
        await cache.listed()
        assert known(cache) == "Scheduled"
        client.events.put_nowait(WatchEvent(EventType.MODIFIED, second))
        await cache.until(lambda: known(cache) == "Running")
        assert cache.by_uid("uid-desk") is second
        client.events.put_nowait(WatchEvent(EventType.DELETED, second))
        await cache.until(lambda: known(cache) is None)
        assert cache.by_uid("uid-desk") is None

        watching.cancel()


async def test_an_older_event_does_not_undo_what_a_write_has_shown() -> None:
    cache = cache_of(ScriptedClient())
    older, newer = vmi("Scheduled"), vmi("Running")

    cache.learn(Collection.VMIS, newer)
    cache.learn(Collection.VMIS, older)

    assert known(cache) == "Running"


async def test_a_new_object_of_the_same_name_replaces_the_old_one() -> None:
    cache = cache_of(ScriptedClient())
    new, old = vmi("Pending", uid="uid-new"), vmi("Failed")

    cache.learn(Collection.VMIS, old)
    cache.learn(Collection.VMIS, new)
    cache.forget(Collection.VMIS, old)

    assert known(cache) == "Pending"
    assert cache.by_uid("uid-desk") is None
    assert cache.by_uid("uid-new") is new


async def test_looking_learns_what_is_there_and_forgets_what_is_not() -> None:
    client = ScriptedClient()
    cache = cache_of(client)
    client.stored = [vmi("Running")]

    await cache.look(Collection.VMIS, client.stored[0])
    assert known(cache) == "Running"

    client.stored, gone = [], client.stored[0]
    await cache.look(Collection.VMIS, gone)
    assert known(cache) is None


async def test_looking_around_learns_all() -> None:
    client = ScriptedClient()
    cache = cache_of(client)
    client.stored = [vmi("Running"), vmi("Pending", name="shelf", uid="uid-shelf")]

    await cache.look_around(Collection.VMIS)

    assert len(cache.items(Collection.VMIS)) == 2


async def test_an_answer_that_is_late_does_not_bring_back_what_is_gone() -> None:
    client = ScriptedClient()
    cache = cache_of(client)
    answer, last, again = vmi("Running"), vmi("Failed"), vmi("Running")
    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        watching = group.create_task(cache.run())
        client.events.put_nowait(WatchEvent(EventType.ADDED, vmi("Running")))
        client.events.put_nowait(WatchEvent(EventType.LISTED))
        await cache.listed()
        client.events.put_nowait(WatchEvent(EventType.DELETED, last))
        await cache.until(lambda: known(cache) is None)

        cache.learn(Collection.VMIS, answer)
        assert known(cache) is None

        cache.learn(Collection.VMIS, again)  # it may be out of sight, and come back
        assert known(cache) == "Running"
        watching.cancel()


async def test_what_the_server_does_not_find_is_gone_for_good() -> None:
    cache = cache_of(ScriptedClient())
    cache.learn(Collection.VMIS, vmi("Running"))

    await cache.look(Collection.VMIS, vmi("Running"))
    cache.learn(Collection.VMIS, vmi("Running"))

    assert known(cache) is None
