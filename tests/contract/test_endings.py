"""How streams end, and who learns what of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.nodes.frames import Opcode
from tests.support.raw_streams import Frame, dial
from tests.support.vms import WAIT_LIMIT_S, GuestSocket, vm
from tests.support.worlds import Part

if TYPE_CHECKING:
    from tests.support.vms import Vm
    from tests.support.worlds import World

SLOT = "virt-usbredir-0"
HELLO_BYTES = 80


async def test_the_end_of_the_guest_is_no_close_frame_but_close_notify(
    world: World, desk: Vm
) -> None:
    with GuestSocket(await desk.run_folder(), SLOT) as slot:
        async with dial(world, desk.stream()) as stream:
            (await slot.accept()).close()

            assert await stream.ending() == "close_notify"


async def test_the_last_bytes_of_the_guest_come_before_the_end(world: World, desk: Vm) -> None:
    data = bytes(range(256)) * 256
    with GuestSocket(await desk.run_folder(), SLOT) as slot:
        async with dial(world, desk.stream()) as stream:
            guest = await slot.accept()
            await guest.send(data)
            guest.close()

            assert await stream.receive(len(data)) == data
            assert await stream.ending() == "close_notify"


@pytest.mark.parametrize("code", [1000, 1001, 4711])
async def test_a_close_of_the_client_is_answered_and_ends_the_stream(
    world: World, desk: Vm, code: int
) -> None:
    with GuestSocket(await desk.run_folder(), SLOT) as slot:
        async with dial(world, desk.stream()) as stream:
            guest = await slot.accept()
            await stream.send(b"last words")
            await stream.send(code.to_bytes(2, "big") + b"bye", Opcode.CLOSE)

            assert await stream.frame() == Frame(Opcode.CLOSE, code.to_bytes(2, "big"))
            assert await stream.ending() == "close_notify"
            assert await guest.receive(11) == b"last words"


async def test_a_client_that_vanishes_ends_the_stream_of_the_guest(world: World, desk: Vm) -> None:
    with GuestSocket(await desk.run_folder(), SLOT) as slot:
        async with dial(world, desk.stream()) as stream:
            guest = await slot.accept()
            await stream.send(b"last words")

        assert await guest.receive(11) == b"last words"


async def test_a_socket_on_which_nobody_listens_is_a_stream_that_ends_at_once(
    world: World, desk: Vm
) -> None:
    with GuestSocket(await desk.run_folder(), SLOT):
        pass

    for _ in range(2):  # the slot is free again
        async with dial(world, desk.stream()) as stream:
            assert stream.answer.status == 101
            assert await stream.ending() == "close_notify"


async def test_a_guest_that_crashes(world: World, desk: Vm) -> None:
    vmi = await desk.vmi()
    (pod,) = await desk.launchers()
    async with dial(world, desk.stream()) as stream:
        await stream.receive(HELLO_BYTES)
        await world.crash(vmi, pod)

        assert await stream.ending() == "close_notify"
    await desk.wait(lambda now: objects.uid(now) != objects.uid(vmi) or objects.is_final(now))


async def test_a_vm_that_is_deleted(world: World) -> None:
    async with vm(world) as short_lived:
        await short_lived.running()
        async with dial(world, short_lived.stream()) as stream:
            await stream.receive(HELLO_BYTES)
            await short_lived.delete()

            assert await stream.ending() == "close_notify"


async def test_a_newer_console_takes_the_stream_from_the_older(world: World, desk: Vm) -> None:
    with GuestSocket(await desk.run_folder(), "virt-serial0") as serial:
        async with dial(world, desk.stream("console")) as older:
            await serial.accept()
            async with dial(world, desk.stream("console")) as newer:
                assert await older.ending() == "close_notify"
                await (await serial.accept()).send(b"login: ")
                assert await newer.receive(7) == b"login: "


async def test_virt_handler_dies(world: World, desk: Vm) -> None:
    handler = Part.handler(objects.status(await desk.vmi())["nodeName"])
    async with dial(world, desk.stream()) as stream:
        await stream.receive(HELLO_BYTES)
        await world.kill(handler)
        try:
            assert await stream.ending() == "close_notify"
            async with dial(world, desk.stream()) as refused:
                message = await refused.message()
        finally:
            await world.start(handler)

    assert refused.answer.status == 500
    assert message.startswith("Internal error occurred: dial tcp 127.")
    assert message.endswith(": connect: connection refused")


async def test_virt_api_dies(world: World, desk: Vm) -> None:
    async with dial(world, desk.stream()) as stream:
        await stream.receive(HELLO_BYTES)
        await world.kill(Part.VIRT_API)
        try:
            assert await stream.ending() == "close_notify"
            async with dial(world, desk.stream()) as refused:
                said = await refused.body()
        finally:
            await world.start(Part.VIRT_API)

    assert refused.answer.status == 503
    assert refused.answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert said.startswith(b"error dialing backend: dial tcp 127.0.0.1:")
    assert said.endswith(b": connect: connection refused\n")


async def test_the_api_server_dies_and_only_then_there_is_no_close_notify(
    world: World, desk: Vm
) -> None:
    async with dial(world, desk.stream()) as stream:
        await stream.receive(HELLO_BYTES)
        await world.kill(Part.API_SERVER)
        try:
            assert await stream.ending() == "FIN"
        finally:
            await world.start(Part.API_SERVER)

    # The guest lives, and is reached again.
    async with asyncio.timeout(WAIT_LIMIT_S):
        while True:
            async with dial(world, desk.stream()) as again:
                if again.answer.status == 101:
                    await again.receive(HELLO_BYTES)
                    break


async def test_a_node_that_hangs_says_nothing_and_goes_on_when_it_wakes(
    world: World, desk: Vm
) -> None:
    handler = Part.handler(objects.status(await desk.vmi())["nodeName"])
    with GuestSocket(await desk.run_folder(), SLOT) as slot:
        async with dial(world, desk.stream()) as stream:
            guest = await slot.accept()
            await world.freeze(handler)
            try:
                await guest.send(b"from the guest")
                await stream.send(b"from the client")
                await stream.send(b"?", Opcode.PING)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await stream.frame()
            finally:
                await world.thaw(handler)

            frames = [await stream.frame(), await stream.frame()]
            assert sorted(frames, key=lambda frame: frame.opcode) == [
                Frame(Opcode.BINARY, b"from the guest"),
                Frame(Opcode.PONG, b"?"),
            ]
            assert await guest.receive(15) == b"from the client"
