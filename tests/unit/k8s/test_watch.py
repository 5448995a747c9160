from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from kubectl_vmredir.errors import ClusterError, ClusterUnreachable, Forbidden, LoginRequired
from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.objects import EventType, WatchEvent
from tests.support.api_client import client_of, listing, query, status, thing
from tests.support.scripted_server import Exchange, Script


def told(event: WatchEvent) -> str:
    """Return an event as a word: ``+a`` added, ``~a`` modified, ``-a`` deleted, or its type."""
    sign = {EventType.ADDED: "+", EventType.MODIFIED: "~", EventType.DELETED: "-"}.get(event.type)
    return f"{sign}{event.object['metadata']['name']}" if sign else event.type.value


async def take(events: AsyncIterator[WatchEvent], count: int) -> list[str]:
    async with asyncio.timeout(5):
        return [told(await anext(events)) for _ in range(count)]


def in_turn(*scripts: Script) -> Script:
    """Answer each request by the next script; the last one for good."""
    left = list(scripts)

    async def script(exchange: Exchange) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(exchange)

    return script


def list_of(*names: str, version: int = 1) -> Script:
    async def script(exchange: Exchange) -> None:
        assert "watch" not in query(exchange)
        await exchange.answer(200, listing(*map(thing, names), version=version))

    return script


def watch_of(*events: tuple[str, Any], end: Callable[[Exchange], None] | None = None) -> Script:
    """Send events; then end as told, or stay silent."""

    async def script(exchange: Exchange) -> None:
        assert query(exchange)["watch"] == "true"
        await exchange.start_watch()
        for kind, obj in events:
            await exchange.event(kind, obj)
        if end is not None:
            end(exchange)
        await exchange.read_to_end()

    return script


def refuse(code: int, reason: str, message: str = "") -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(code, status(code, reason, message))

    return script


async def end_orderly(exchange: Exchange) -> None:
    await exchange.start_watch()
    await exchange.end_watch()


async def test_all_that_exists_is_told_first_then_each_change() -> None:
    script = in_turn(
        list_of("a", "b", version=5),
        watch_of(("ADDED", thing("c", 6)), ("MODIFIED", thing("a", 7)), ("DELETED", thing("b", 8))),
    )

    async with client_of(script) as (client, server), aclosing(client.watch("/things")) as events:
        assert await take(events, 6) == ["+a", "+b", "LISTED", "+c", "~a", "-b"]

    asked = query(server.requests[1])
    assert asked["resourceVersion"] == "5"
    assert asked["allowWatchBookmarks"] == "true"
    assert 300 <= int(asked["timeoutSeconds"]) <= 600


async def test_selectors_go_with_the_list_and_the_watch() -> None:
    script = in_turn(list_of(), watch_of(("ADDED", thing("a"))))
    params = {"fieldSelector": "metadata.name=a"}

    async with (
        client_of(script) as (client, server),
        aclosing(client.watch("/things", params)) as events,
    ):
        await take(events, 2)

    assert [query(request)["fieldSelector"] for request in server.requests] == [
        "metadata.name%3Da"
    ] * 2


async def test_watch_that_breaks_early_is_lost_and_all_is_told_again() -> None:
    script = in_turn(
        list_of("a", version=5),
        watch_of(("MODIFIED", thing("a", 9)), end=Exchange.say_goodbye),
        list_of("a", "b", version=10),
        watch_of(("DELETED", thing("a", 11))),
    )

    async with client_of(script) as (client, server), aclosing(client.watch("/things")) as events:
        assert await take(events, 4) == ["+a", "LISTED", "~a", "LOST"]
        assert await take(events, 4) == ["~a", "+b", "LISTED", "-a"]

    assert query(server.requests[3])["resourceVersion"] == "10"


async def test_orderly_end_is_no_loss() -> None:
    script = in_turn(list_of("a"), end_orderly, end_orderly, watch_of(("DELETED", thing("a"))))

    async with client_of(script) as (client, _server), aclosing(client.watch("/things")) as events:
        assert await take(events, 3) == ["+a", "LISTED", "-a"]


async def test_bookmark_moves_the_point_to_go_on_from() -> None:
    async def bookmark_then_end(exchange: Exchange) -> None:
        await exchange.start_watch()
        await exchange.event("BOOKMARK", thing("", 77))
        await exchange.end_watch()

    script = in_turn(list_of("a"), bookmark_then_end, watch_of(("MODIFIED", thing("a", 78))))

    async with client_of(script) as (client, server), aclosing(client.watch("/things")) as events:
        assert await take(events, 3) == ["+a", "LISTED", "~a"]

    assert query(server.requests[2])["resourceVersion"] == "77"


async def test_watches_leave_room_for_requests_however_many_there_are() -> None:
    watching = asyncio.Semaphore(0)

    async def script(exchange: Exchange) -> None:
        if "watch" in query(exchange):
            watching.release()
            await watch_of()(exchange)
        else:
            await list_of("a")(exchange)

    async def watch(client: KubeClient, number: int) -> None:
        async with aclosing(client.watch(f"/things/{number}")) as events:
            async for _ in events:
                pass

    async with client_of(script) as (client, _), asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch(client, number)) for number in range(130)]
        async with asyncio.timeout(10):
            for _ in tasks:
                await watching.acquire()

            assert await client.get("/things")
        for task in tasks:
            task.cancel()


@pytest.mark.parametrize(
    "gone",
    [
        refuse(410, "Expired", "too old resource version"),
        watch_of(("ERROR", status(410, "Expired", "too old resource version"))),
    ],
    ids=["as-answer", "as-event"],
)
async def test_410_lists_again_and_tells_what_vanished(gone: Script) -> None:
    script = in_turn(
        list_of("a", "b"), gone, list_of("b", "c", version=9), watch_of(("DELETED", thing("c")))
    )

    async with client_of(script) as (client, server), aclosing(client.watch("/things")) as events:
        assert await take(events, 8) == ["+a", "+b", "LISTED", "-a", "~b", "+c", "LISTED", "-c"]

    assert query(server.requests[3])["resourceVersion"] == "9"


async def test_object_that_came_back_under_its_old_name_is_another_one() -> None:
    async def reborn(exchange: Exchange) -> None:
        await exchange.answer(200, listing(thing("a", 9, uid="second"), version=9))

    script = in_turn(list_of("a"), refuse(410, "Expired"), reborn, watch_of())

    async with client_of(script) as (client, _server), aclosing(client.watch("/things")) as events:
        assert await take(events, 5) == ["+a", "LISTED", "-a", "+a", "LISTED"]


@pytest.mark.parametrize("code", [429, 500, 503, 504])
async def test_refusal_that_may_pass_is_said_and_waited_out(code: int) -> None:
    script = in_turn(
        refuse(code, ""), refuse(code, ""), list_of("a"), watch_of(("MODIFIED", thing("a")))
    )

    async with client_of(script) as (client, _server), aclosing(client.watch("/things")) as events:
        first = await anext(events)
        assert first.type is EventType.LOST
        assert first.cause is not None
        assert first.cause.retryable
        assert await take(events, 3) == ["+a", "LISTED", "~a"]


async def test_loss_is_said_once_however_long_it_lasts() -> None:
    script = in_turn(
        list_of("a", version=5),
        watch_of(end=Exchange.cut),
        refuse(503, ""),
        refuse(503, ""),
        list_of("a", version=6),
        watch_of(),
    )

    async with client_of(script) as (client, _server), aclosing(client.watch("/things")) as events:
        assert await take(events, 5) == ["+a", "LISTED", "LOST", "~a", "LISTED"]


async def test_error_in_mid_watch_is_a_loss_and_listed_anew() -> None:
    script = in_turn(
        list_of("a"),
        watch_of(("ERROR", status(500, "InternalError", "etcd"))),
        list_of("b", version=9),
        watch_of(),
    )

    async with client_of(script) as (client, _server), aclosing(client.watch("/things")) as events:
        assert await take(events, 6) == ["+a", "LISTED", "LOST", "-a", "+b", "LISTED"]


@pytest.mark.parametrize(
    ("code", "error"), [(401, LoginRequired), (403, Forbidden), (404, ClusterError)]
)
async def test_trouble_that_waiting_does_not_cure_is_raised(
    code: int, error: type[ClusterError]
) -> None:
    script = in_turn(refuse(code, "x"))

    async with client_of(script) as (client, _server), aclosing(client.watch("/things")) as events:
        with pytest.raises(error):
            await take(events, 1)


@pytest.mark.parametrize("code", [401, 403, 404])
async def test_refusal_of_what_was_allowed_before_is_not_believed_at_once(code: int) -> None:
    script = in_turn(
        list_of("a"),
        watch_of(end=Exchange.cut),
        refuse(code, "x"),
        refuse(code, "x"),
        list_of(),
        watch_of(),
    )

    async with client_of(script) as (client, _server), aclosing(client.watch("/things")) as events:
        assert await take(events, 5) == ["+a", "LISTED", "LOST", "-a", "LISTED"]


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"type": "OTHER", "object": {}}', b'{"type": 1}'])
async def test_garbage_is_a_loss_and_listed_anew(line: bytes) -> None:
    async def garbage(exchange: Exchange) -> None:
        await exchange.start_watch()
        await exchange.write(b"%x\r\n%b\n\r\n" % (len(line) + 1, line))
        await exchange.read_to_end()

    script = in_turn(list_of("a"), garbage, watch_of(("MODIFIED", thing("a"))))

    async with client_of(script) as (client, _server), aclosing(client.watch("/things")) as events:
        assert (await take(events, 3))[2] == "LOST"


async def test_event_without_end_is_a_loss() -> None:
    async def flood(exchange: Exchange) -> None:
        await exchange.start_watch()
        while True:
            await exchange.write(b"%x\r\n%b\r\n" % (1 << 20, b"x" * (1 << 20)))

    async with (
        client_of(in_turn(list_of(), flood)) as (client, _server),
        aclosing(client.watch("/things")) as events,
    ):
        assert await take(events, 1) == ["LISTED"]
        lost = await anext(events)

    assert isinstance(lost.cause, ClusterUnreachable)


async def test_events_may_be_cut_anywhere() -> None:
    async def in_bytes(exchange: Exchange) -> None:
        await exchange.start_watch()
        line = b'{"type": "ADDED", "object": {"metadata": {"name": "a", "uid": "1"}}}\n\n'
        for byte in line:
            await exchange.write(b"1\r\n%c\r\n" % byte)
        await exchange.read_to_end()

    async with (
        client_of(in_turn(list_of(), in_bytes)) as (client, _server),
        aclosing(client.watch("/things")) as events,
    ):
        assert await take(events, 2) == ["LISTED", "+a"]


async def test_leaving_a_watch_closes_its_connection() -> None:
    left = asyncio.Event()

    async def one_event(exchange: Exchange) -> None:
        await exchange.start_watch()
        await exchange.event("ADDED", thing("a"))
        await exchange.read_to_end()
        left.set()

    async with client_of(in_turn(list_of(), one_event)) as (client, _server):
        async with aclosing(client.watch("/things")) as events:
            assert await take(events, 2) == ["LISTED", "+a"]
        async with asyncio.timeout(5):
            await left.wait()


async def test_cancelled_watch_closes_its_connection() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def silent(exchange: Exchange) -> None:
        asked.set()
        await exchange.read_to_end()
        left.set()

    async with client_of(in_turn(list_of(), silent)) as (client, _server):

        async def follow() -> None:
            async with aclosing(client.watch("/things")) as events:
                async for _event in events:
                    pass

        async with asyncio.TaskGroup() as group:
            task = group.create_task(follow())
            await asked.wait()
            task.cancel()
        async with asyncio.timeout(5):
            await left.wait()
