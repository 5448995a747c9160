"""The four USB slots of a VM: who gets which, and when one is free again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.nodes.frames import Opcode
from kubectl_vmredir.protocol.constants import ALL_CAPS, Cap
from tests.support.raw_streams import RawStream, dial
from tests.support.vms import WAIT_LIMIT_S, GuestEnd, GuestSocket, all_slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.vms import Vm
    from tests.support.worlds import World

FULL = "Internal error occurred: Can't connect to websocket (503): websocket: bad handshake"
HELLO_BYTES = 80


@asynccontextmanager
async def dialed(world: World, desk: Vm, count: int) -> AsyncIterator[list[RawStream]]:
    """Dial so many slots, one after the other."""
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(count):
            streams.append(await stack.enter_async_context(dial(world, desk.stream())))
            assert streams[-1].answer.status == 101
        yield streams


async def talk(stream: RawStream, guest: GuestEnd) -> None:
    """Prove that the two are the ends of one stream."""
    await stream.send(b"ping")
    assert await guest.receive(4) == b"ping"


async def dial_until_opened(world: World, desk: Vm, stack: AsyncExitStack) -> RawStream:
    """Dial until there is a free slot."""
    async with asyncio.timeout(WAIT_LIMIT_S):
        while True:
            attempt = AsyncExitStack()
            stream = await attempt.enter_async_context(dial(world, desk.stream()))
            if stream.answer.status == 101:
                stack.push_async_exit(attempt)
                return stream
            await attempt.aclose()


async def test_slots_are_given_in_order(world: World, desk: Vm) -> None:
    with all_slots(await desk.run_folder()) as slots:
        async with dialed(world, desk, 4) as streams:
            for stream, slot in zip(streams, slots, strict=True):
                await talk(stream, await slot.accept())


async def test_the_fifth_client_is_refused_and_no_other_is_harmed(world: World, desk: Vm) -> None:
    with all_slots(await desk.run_folder()) as slots:
        async with dialed(world, desk, 4) as streams:
            async with dial(world, desk.stream()) as fifth:
                message = await fifth.message()

            for stream, slot in zip(streams, slots, strict=True):
                await talk(stream, await slot.accept())
    assert fifth.answer.status == 500
    assert message == FULL


@pytest.mark.parametrize("freed", [0, 2, 3])
async def test_a_slot_that_was_freed_is_given_next(world: World, desk: Vm, freed: int) -> None:
    with all_slots(await desk.run_folder()) as slots:
        async with dialed(world, desk, 4) as streams, AsyncExitStack() as stack:
            guest = await slots[freed].accept()
            await streams[freed].send((1000).to_bytes(2, "big"), Opcode.CLOSE)
            assert await guest.receive(1) == b""

            again = await dial_until_opened(world, desk, stack)

            await talk(again, await slots[freed].accept())


async def test_a_slot_can_be_used_again_at_once(world: World, desk: Vm) -> None:
    with GuestSocket(await desk.run_folder(), sockets.SLOTS[0]) as slot:
        for _ in range(20):
            async with dial(world, desk.stream()) as stream:
                guest = await slot.accept()
                await talk(stream, guest)
                await stream.send((1000).to_bytes(2, "big"), Opcode.CLOSE)
                assert (await stream.frame()).opcode is Opcode.CLOSE
                assert await stream.ending() == "close_notify"
                assert await guest.receive(1) == b""


async def test_four_dials_at_once_get_four_slots(world: World, desk: Vm) -> None:
    opened = asyncio.Barrier(4)

    async def use(slot: GuestSocket) -> None:
        async with dial(world, desk.stream()) as stream:
            assert stream.answer.status == 101
            await slot.accept()
            await opened.wait()

    with all_slots(await desk.run_folder()) as slots:
        async with asyncio.timeout(WAIT_LIMIT_S), asyncio.TaskGroup() as group:
            for slot in slots:
                group.create_task(use(slot))


async def test_the_guest_greets_each_client_with_its_hello(world: World, desk: Vm) -> None:
    async with dialed(world, desk, 4) as streams:
        hellos = [await stream.receive(HELLO_BYTES) for stream in streams]

    for hello in hellos:
        assert hello[:12] == bytes.fromhex("00000000 44000000 00000000")
        assert hello[12:].startswith(b"qemu usb-redir guest ")
        assert Cap(int.from_bytes(hello[76:], "little")) == ALL_CAPS


async def test_a_second_client_of_a_busy_slot_hears_nothing_until_the_first_leaves(
    world: World, desk: Vm
) -> None:
    folder = await desk.run_folder()
    with sockets.short_path(folder, sockets.SLOTS[0]) as path:
        reader, writer = await asyncio.open_unix_connection(path)
    async with asyncio.timeout(WAIT_LIMIT_S):
        await reader.readexactly(HELLO_BYTES)  # somebody who came without virt-handler

    async with dial(world, desk.stream()) as stream:
        assert stream.answer.status == 101
        assert await stream.silent()
        writer.close()
        await writer.wait_closed()

        assert (await stream.receive(HELLO_BYTES))[12:].startswith(b"qemu usb-redir guest ")


async def test_plain_gets_take_slots_until_virt_api_collects_its_garbage(
    world: World, desk: Vm
) -> None:
    with all_slots(await desk.run_folder()) as slots:
        async with world.http("alice") as http:
            for slot in slots:
                answer = await http.get(desk.stream())
                assert answer.status_code == 400
                assert answer.text.startswith("Bad Request\n{")
                await slot.accept()

        async with dial(world, desk.stream()) as stream:
            assert await stream.message() == FULL
        async with AsyncExitStack() as stack:
            await dial_until_opened(world, desk, stack)
