"""What goes through an open websocket, and how it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from kubectl_vmredir.errors import (
    PathBroken,
    RemoteProtocolError,
    StreamLost,
)
from tests.support.scripted_server import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Exchange,
    frame_bytes,
)
from tests.support.websockets import Ears, World, accepting


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack, tmp_path)


# -- messages in ----------------------------------------------------------------------------


async def test_fragments_make_one_stream_and_empty_ones_are_swallowed(world: World) -> None:
    ears = Ears()

    async def frames(exchange: Exchange) -> None:
        # docs/facts/kubevirt.md, "Framing": 32768 bytes of QEMU, then 40000.
        await exchange.frame(BINARY, b"a" * 32768, fin=False)
        await exchange.frame(CONTINUATION)
        await exchange.frame(BINARY, b"b" * 10240, fin=False)
        await exchange.frame(PING, b"between")
        await exchange.frame(CONTINUATION, b"c" * 10240, fin=False)
        await exchange.frame(CONTINUATION, b"d")
        await exchange.frame(BINARY)

    await world.open(accepting(frames), ears)
    await ears.until(lambda: len(ears.heard) >= 53249)

    assert bytes(ears.heard) == b"a" * 32768 + b"b" * 10240 + b"c" * 10240 + b"d"
    assert all(ears.chunks)


async def test_text_is_dropped_with_its_continuations(world: World) -> None:
    ears = Ears()

    async def frames(exchange: Exchange) -> None:
        await exchange.frame(TEXT, b"not", fin=False)
        await exchange.frame(CONTINUATION, b"this")
        await exchange.frame(BINARY, b"but", fin=False)
        await exchange.frame(CONTINUATION, b" this")

    await world.open(accepting(frames), ears)
    await ears.until(lambda: len(ears.heard) >= 8)

    assert bytes(ears.heard) == b"but this"


async def test_large_frame_is_taken(world: World) -> None:
    ears, payload = Ears(), os.urandom(4 << 20)

    async def frames(exchange: Exchange) -> None:
        await exchange.frame(BINARY, payload)

    await world.open(accepting(frames), ears)
    await ears.until(lambda: len(ears.heard) >= len(payload))

    assert bytes(ears.heard) == payload


async def test_ping_of_the_server_is_answered(world: World) -> None:
    answered: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    async def frames(exchange: Exchange) -> None:
        await exchange.frame(PING, b"keep alive")
        answered.put_nowait(await exchange.read_frame())

    await world.open(accepting(frames), Ears())

    async with asyncio.timeout(5):
        assert await answered.get() == (PONG, b"keep alive")


async def test_small_messages_that_are_read_at_once_are_heard_at_once(world: World) -> None:
    ears = Ears()

    async def frames(exchange: Exchange) -> None:
        await exchange.write(b"".join(frame_bytes(BINARY, bytes([n])) for n in range(9)))

    await world.open(accepting(frames), ears)
    await ears.until(lambda: ears.chunks)

    assert ears.chunks == [bytes(range(9))]


async def test_messages_that_are_read_together_with_dropped_ones_are_heard(world: World) -> None:
    ears = Ears()

    async def frames(exchange: Exchange) -> None:
        await exchange.write(
            frame_bytes(BINARY, b"before ")
            + frame_bytes(TEXT, b"dropped, ", fin=False)
            + frame_bytes(PING, b"")
            + frame_bytes(CONTINUATION, b"and its end")
            + frame_bytes(BINARY, b"after", fin=False)
            + frame_bytes(CONTINUATION)
            + frame_bytes(TEXT, b"dropped, too")
        )

    await world.open(accepting(frames), ears)
    await ears.until(lambda: ears.chunks)

    assert ears.chunks == [b"before after"]


async def test_messages_of_all_sizes_stay_in_order(world: World) -> None:
    ears = Ears()
    messages = [os.urandom(size) for size in (5, 300_000, 7, 200_000, 100_000, 0, 1, 262_144, 3)]

    async def frames(exchange: Exchange) -> None:
        await exchange.write(b"".join(frame_bytes(BINARY, message) for message in messages))

    await world.open(accepting(frames), ears)
    await ears.until(lambda: len(ears.heard) >= sum(map(len, messages)))

    assert bytes(ears.heard) == b"".join(messages)


async def test_message_before_a_close_frame_is_heard(world: World) -> None:
    ears = Ears()

    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance())
        await exchange.write(frame_bytes(BINARY, b"last") + frame_bytes(CLOSE, b"\x03\xe8"))
        await exchange.read_to_end()

    await world.open(script, ears)
    await ears.end()

    assert ears.chunks == [b"last"]


async def test_paused_reader_hears_nothing_until_it_resumes(world: World) -> None:
    ears = Ears()
    messages = [os.urandom(300_000), b"read together with the end of the first"]

    async def frames(exchange: Exchange) -> None:
        await exchange.write(b"".join(frame_bytes(BINARY, message) for message in messages))

    stream = await world.open(accepting(frames), ears)
    ears.on_received = stream.pause_reading
    await ears.until(lambda: ears.chunks)
    assert ears.chunks == messages[:1]

    stream.resume_reading()
    await ears.until(lambda: len(ears.chunks) == len(messages))  # it may not have been read yet
    assert ears.chunks == messages


async def test_paused_reader_holds_the_server_back_and_loses_nothing(world: World) -> None:
    ears, chunk, count = Ears(), os.urandom(1 << 20), 64
    go, blocked = asyncio.Event(), asyncio.Event()

    async def flood(exchange: Exchange) -> None:
        await go.wait()
        for number in range(count):
            send = exchange.frame(BINARY, chunk)
            if number < count - 1 and not blocked.is_set():
                try:
                    async with asyncio.timeout(0.2):
                        await send
                except TimeoutError:
                    blocked.set()  # the frame is in the server's buffer all the same
            else:
                await send

    stream = await world.open(accepting(flood), ears)
    stream.pause_reading()
    go.set()
    async with asyncio.timeout(5):
        await blocked.wait()
    assert ears.chunks == []

    stream.resume_reading()
    await ears.until(lambda: len(ears.heard) >= count * len(chunk))
    assert bytes(ears.heard) == chunk * count


async def test_reader_who_pauses_in_the_middle_of_a_read_gets_the_rest_when_no_more_comes(
    world: World,
) -> None:
    ears, go, sent = Ears(), asyncio.Semaphore(0), asyncio.Semaphore(0)
    messages = [os.urandom(245_000), os.urandom(50_000)]
    data = b"".join(frame_bytes(BINARY, message) for message in messages)

    async def halves(exchange: Exchange) -> None:
        # The first half nearly fills the buffer of picows, so that it cannot take all of the rest.
        for half in (data[:235_000], data[235_000:]):
            await go.acquire()
            await exchange.write(half)
            sent.release()

    async def next_half() -> None:
        go.release()
        await sent.acquire()
        for _ in range(20):  # the kernel has it; the loop gets it within a few turns
            await asyncio.sleep(0)

    stream = await world.open(accepting(halves), ears)
    await next_half()
    stream.pause_reading()
    await next_half()

    def pause_for_a_turn() -> None:
        stream.pause_reading()
        loop.call_later(0, stream.resume_reading)

    loop = asyncio.get_running_loop()
    ears.on_received = pause_for_a_turn
    stream.resume_reading()
    await ears.until(lambda: len(ears.heard) >= 295_000)

    assert ears.chunks == messages


# -- messages out ---------------------------------------------------------------------------


async def test_each_send_is_one_masked_binary_message(world: World) -> None:
    got: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    async def frames(exchange: Exchange) -> None:
        for _ in range(3):
            got.put_nowait(await exchange.read_frame())

    stream = await world.open(accepting(frames), Ears())
    large = os.urandom(70000)
    stream.send(b"one")
    stream.send(b"")
    buffer = bytearray(b"two")
    stream.send(memoryview(buffer))
    buffer[:] = b"xxx"  # the view may be reused
    stream.send(large)

    async with asyncio.timeout(5):
        assert [await got.get() for _ in range(3)] == [
            (BINARY, b"one"),
            (BINARY, b"two"),
            (BINARY, large),
        ]


async def test_slow_reader_is_felt_through_the_water_marks(world: World) -> None:
    ears, go = Ears(), asyncio.Event()

    async def frames(exchange: Exchange) -> None:
        await go.wait()

    stream = await world.open(accepting(frames), ears)
    chunk = bytes(65536)
    for _ in range(1000):
        if ears.writable_calls:
            break
        stream.send(chunk)
        await asyncio.sleep(0)
    assert ears.writable_calls == [False]

    go.set()
    await ears.until(lambda: len(ears.writable_calls) == 2)
    assert ears.writable_calls == [False, True]


async def test_round_trip_is_that_of_the_ping_which_was_answered(world: World) -> None:
    ears = Ears()

    async def frames(exchange: Exchange) -> None:
        _first = await exchange.read_frame()
        _opcode, second = await exchange.read_frame()
        await exchange.frame(PONG, b"unasked")
        await exchange.frame(PONG, second)

    stream = await world.open(accepting(frames), ears)
    stream.ping()
    stream.ping()
    await ears.until(lambda: ears.round_trips_s)

    assert len(ears.round_trips_s) == 1
    assert 0 < ears.round_trips_s[0] < 5


# -- ends -----------------------------------------------------------------------------------


async def test_goodbye_of_the_server_is_the_end_of_the_stream(world: World) -> None:
    ears = Ears()

    async def frames(exchange: Exchange) -> None:
        await exchange.frame(BINARY, b"last")
        exchange.say_goodbye()

    await world.open(accepting(frames), ears)
    cause = await ears.end()

    assert bytes(ears.heard) == b"last"
    assert type(cause) is StreamLost
    assert str(cause) == "the VM's end of the stream is gone"


@pytest.mark.parametrize("way", ["cut", "reset"])
async def test_end_without_goodbye_is_a_broken_path(world: World, way: str) -> None:
    ears = Ears()

    async def frames(exchange: Exchange) -> None:
        await exchange.frame(BINARY, b"last")
        {"cut": exchange.cut, "reset": exchange.reset}[way]()

    await world.open(accepting(frames), ears)
    cause = await ears.end()

    assert type(cause) is PathBroken


async def test_close_frame_of_the_server_ends_the_stream(world: World) -> None:
    ears, answered = Ears(), asyncio.Queue[tuple[int, bytes]]()

    async def frames(exchange: Exchange) -> None:
        await exchange.frame(CLOSE, b"\x03\xe8")
        answered.put_nowait(await exchange.read_frame())

    await world.open(accepting(frames), ears)

    async with asyncio.timeout(5):
        assert await answered.get() == (CLOSE, b"\x03\xe8")
    assert isinstance(await ears.end(), StreamLost)


async def test_broken_frame_is_the_fault_of_the_server(world: World) -> None:
    ears = Ears()

    async def frames(exchange: Exchange) -> None:
        await exchange.frame(0x3, b"no such opcode")

    await world.open(accepting(frames), ears)
    cause = await ears.end()

    assert isinstance(cause, RemoteProtocolError)
    assert "opcode" in str(cause)


async def test_frame_without_end_is_the_fault_of_the_server(world: World) -> None:
    ears = Ears()

    async def frames(exchange: Exchange) -> None:
        await exchange.write(b"\x82\x7f" + (1 << 40).to_bytes(8))

    await world.open(accepting(frames), ears)

    assert isinstance(await ears.end(), RemoteProtocolError)


async def test_close_says_goodbye_and_waits_for_the_end(world: World) -> None:
    ears, got = Ears(), asyncio.Queue[tuple[int, bytes]]()

    async def frames(exchange: Exchange) -> None:
        got.put_nowait(await exchange.read_frame())
        got.put_nowait(await exchange.read_frame())
        await exchange.frame(CLOSE, b"\x03\xe8")
        exchange.say_goodbye()

    stream = await world.open(accepting(frames), ears)
    stream.send(b"last words")
    async with asyncio.timeout(0.9):
        await stream.close()

    assert [got.get_nowait(), got.get_nowait()] == [(BINARY, b"last words"), (CLOSE, b"\x03\xe8")]
    assert str(ears.cause) == "closed by us"
    await stream.close()
    stream.send(b"into the void")
    stream.ping()


async def test_close_does_not_wait_for_a_server_that_hangs(world: World) -> None:
    ears = Ears()

    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance())
        await exchange.read_to_end()

    stream = await world.open(script, ears)
    stream.pause_reading()
    await stream.close(timeout_s=0.05)

    assert str(await ears.end()) == "closed by us"
