"""Bytes between client and guest: frames, and what they do to them.

The guest's socket is the test's own, so that each write is known.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.lab.nodes.frames import Opcode
from tests.support.raw_streams import Frame, RawStream, dial
from tests.support.vms import GuestEnd, GuestSocket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.vms import Vm
    from tests.support.worlds import World

pytestmark = pytest.mark.usefixtures("hung_dial")  # begins here

BINARY, CONTINUATION = Opcode.BINARY, Opcode.CONTINUATION
CLOSE, PING, PONG, TEXT = Opcode.CLOSE, Opcode.PING, Opcode.PONG, Opcode.TEXT


@asynccontextmanager
async def connected(world: World, desk: Vm) -> AsyncIterator[tuple[RawStream, GuestEnd]]:
    """Give both ends of a stream of usbredir."""
    with GuestSocket(await desk.run_folder(), "virt-usbredir-0") as slot:
        async with dial(world, desk.stream()) as stream:
            yield stream, await slot.accept()


# Sizes of what a guest writes at once, and the frames that a client gets: opcode, size, FIN.
FRAMES = [
    (1, [(BINARY, 1, True)]),
    (125, [(BINARY, 125, True)]),
    (126, [(BINARY, 126, True)]),
    (10240, [(BINARY, 10240, True)]),
    (10241, [(BINARY, 10240, False), (CONTINUATION, 1, True)]),
    (16384, [(BINARY, 10240, False), (CONTINUATION, 6144, True)]),
    (20480, [(BINARY, 10240, False), (CONTINUATION, 10240, True)]),
    (20481, [(BINARY, 10240, False), (CONTINUATION, 10240, False), (CONTINUATION, 1, True)]),
    (32768, [(BINARY, 32768, False), (CONTINUATION, 0, True)]),
    (40000, [(BINARY, 32768, False), (CONTINUATION, 0, True), (BINARY, 7232, True)]),
]


@pytest.mark.parametrize(("size", "frames"), FRAMES)
async def test_a_write_of_the_guest_comes_in_these_frames(
    world: World, desk: Vm, size: int, frames: list[tuple[Opcode, int, bool]]
) -> None:
    data = random.Random(size).randbytes(size)
    async with connected(world, desk) as (stream, guest):
        await guest.send(data)
        got = [await stream.frame() for _ in frames]

    assert [(frame.opcode, len(frame.payload), frame.final) for frame in got] == frames
    assert b"".join(frame.payload for frame in got) == data


@pytest.mark.parametrize("size", [1, 125, 126, 4096, 65535, 65536, 1 << 20])
async def test_a_frame_of_the_client_reaches_the_guest_whole(
    world: World, desk: Vm, size: int
) -> None:
    data = random.Random(size).randbytes(size)
    async with connected(world, desk) as (stream, guest):
        await stream.send(data)

        assert await guest.receive(size) == data


async def test_fragments_and_what_comes_between_them(world: World, desk: Vm) -> None:
    async with connected(world, desk) as (stream, guest):
        await stream.send(b"one ", BINARY, final=False)
        await stream.send(b"beat", PING)
        await stream.send(b"", CONTINUATION, final=False)
        await stream.send(b"message", CONTINUATION)

        assert await guest.receive(11) == b"one message"
        assert await stream.frame() == Frame(PONG, b"beat")


async def test_text_is_dropped_and_so_is_what_continues_it(world: World, desk: Vm) -> None:
    async with connected(world, desk) as (stream, guest):
        await stream.send(b"not for", TEXT, final=False)
        await stream.send(b" the guest", CONTINUATION)
        await stream.send(b"data")

        assert await guest.receive(4) == b"data"


async def test_empty_messages_mean_nothing(world: World, desk: Vm) -> None:
    async with connected(world, desk) as (stream, guest):
        for payload in (b"", b"a", b"", b"", b"b"):
            await stream.send(payload)

        assert await guest.receive(2) == b"ab"


@pytest.mark.parametrize("payload", [b"", b"x", bytes(125)])
async def test_a_ping_is_answered_with_what_was_in_it(
    world: World, desk: Vm, payload: bytes
) -> None:
    async with connected(world, desk) as (stream, _):
        await stream.send(payload, PING)

        assert await stream.frame() == Frame(PONG, payload)


async def test_a_pong_that_nobody_asked_for_is_ignored(world: World, desk: Vm) -> None:
    async with connected(world, desk) as (stream, guest):
        await stream.send(b"hello", PONG)
        await stream.send(b"data")

        assert await guest.receive(4) == b"data"
        assert await stream.silent()


VIOLATIONS = [
    pytest.param({"opcode": BINARY, "masked": False}, "bad MASK", id="unmasked"),
    pytest.param({"opcode": CONTINUATION}, "continuation after FIN", id="continues-nothing"),
    pytest.param({"opcode": 3}, "bad opcode 3", id="unknown-opcode"),
    pytest.param({"opcode": PING, "final": False}, "FIN not set on control", id="half-a-ping"),
]


@pytest.mark.parametrize(("how", "why"), VIOLATIONS)
async def test_a_client_that_breaks_the_rules_is_told_and_let_go(
    world: World, desk: Vm, how: dict[str, object], why: str
) -> None:
    async with connected(world, desk) as (stream, guest):
        await stream.send(b"data", **how)  # type: ignore[arg-type]

        assert await stream.frame() == Frame(CLOSE, (1002).to_bytes(2, "big") + why.encode())
        assert await stream.ending() == "close_notify"
        assert await guest.receive(1) == b""


async def test_much_data_both_ways_at_once(world: World, desk: Vm) -> None:
    size = 4 << 20
    up, down = random.Random(1).randbytes(size), random.Random(2).randbytes(size)
    async with connected(world, desk) as (stream, guest):

        async def send_up() -> None:
            for at in range(0, size, 1 << 16):
                await stream.send(up[at : at + (1 << 16)])

        async with asyncio.TaskGroup() as group:
            group.create_task(guest.send(down))
            arrived = group.create_task(guest.receive(size))
            group.create_task(send_up())
            got = await stream.receive(size)

    assert arrived.result() == up
    assert got == down
