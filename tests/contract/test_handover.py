"""What a migration does to the streams of a VM, and how a client finds the VM again."""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.lab import objects
from tests.support.lab_api import StreamEnd
from tests.support.raw_streams import RawStream, dial
from tests.support.timelines import recording
from tests.support.vms import SLOW_COPY, WAIT_LIMIT_S, Vm, all_slots, cordon, vm

if TYPE_CHECKING:
    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject
    from tests.support.worlds import World

HELLO_BYTES = 80
GREETING = b"qemu usb-redir guest "


async def hello(stream: RawStream) -> bool:
    """Return whether a guest greets."""
    return (await stream.receive(HELLO_BYTES))[12:].startswith(GREETING)


def node(vmi: JsonObject) -> str:
    """Return where a VMI is."""
    return str(objects.status(vmi)["nodeName"])


async def test_the_old_stream_ends_in_order_and_a_new_dial_reaches_the_target(
    world: World, desk: Vm
) -> None:
    before = await desk.running()
    async with dial(world, desk.stream()) as old:
        assert await hello(old)
        name = await desk.migrate()

        assert await old.ending() == "close_notify"
    after = await desk.has_left(node(before))
    async with dial(world, desk.stream()) as new:
        assert new.answer.status == 101
        assert await hello(new)
    vmim = await desk.migration(name, objects.is_final)
    assert objects.phase(vmim) == "Succeeded"
    assert node(after) == objects.migration_state(after)["targetNode"]


async def test_the_old_stream_ends_before_node_name_flips(
    world: World, admin: KubeClient, desk: Vm
) -> None:
    before = await desk.running()
    async with recording(admin) as seen, dial(world, desk.stream()) as old:
        assert await hello(old)
        await desk.migrate()
        assert await old.ending() == "close_notify"
        ended = list(seen.events)

        await desk.has_left(node(before))

    nodes = [node(obj) for _, obj in ended if objects.name(obj) == desk.ref.name]
    assert set(nodes) == {node(before)}


async def test_until_node_name_flips_the_way_leads_to_the_source_that_is_gone(
    world: World, desk: Vm
) -> None:
    async with dial(world, desk.stream()) as old:
        assert await hello(old)
        await desk.migrate()
        assert await old.ending() == "close_notify"

        # Dial as fast as it goes: each is refused for want of a launcher or a socket (400), or
        # because the target has not heard of the VM yet (404), or is a stream that ends at once.
        async with asyncio.timeout(WAIT_LIMIT_S):
            while True:
                async with dial(world, desk.stream()) as stream:
                    if stream.answer.status == 101:
                        with suppress(StreamEnd):
                            assert await hello(stream)
                            break
                    else:
                        assert stream.answer.status == 500
                        message = await stream.message()
                        assert re.search(r"\(40[04]\): websocket: bad handshake", message)


async def test_slots_of_the_target_are_given_in_order_from_the_first(
    world: World, desk: Vm
) -> None:
    async with AsyncExitStack() as stack:
        old = [await stack.enter_async_context(dial(world, desk.stream())) for _ in range(3)]
        for stream in old:
            assert await hello(stream)

        await desk.moved()
        for stream in old:
            assert await stream.ending() == "close_notify"

        with all_slots(await desk.run_folder()) as slots:
            for slot in slots:
                new = await stack.enter_async_context(dial(world, desk.stream()))
                await new.send(b"who?")
                assert await (await slot.accept()).receive(4) == b"who?"


async def test_there_and_back_again(world: World, desk: Vm) -> None:
    nodes = [node(await desk.running())]
    for _ in range(2):
        nodes.append(node(await desk.moved()))
        async with dial(world, desk.stream()) as stream:
            assert await hello(stream)

    assert nodes[0] == nodes[2] != nodes[1]


@pytest.mark.parametrize("how", ["cancelled", "target killed", "nowhere to go"])
async def test_streams_outlive_a_migration_that_ends_badly(
    world: World, admin: KubeClient, how: str
) -> None:
    async with vm(world, annotations={} if how == "nowhere to go" else SLOW_COPY) as desk:
        await desk.running()
        async with dial(world, desk.stream()) as stream:
            assert await hello(stream)
            match how:
                case "cancelled":
                    await desk.cancel(await start_copying(world, desk))
                case "target killed":
                    await start_copying(world, desk)
                    vmi = await desk.vmi()
                    await world.crash(vmi, objects.migration_state(vmi)["targetPod"])
                case _:
                    await cordon(admin, "node1", "node2")
                    try:
                        await desk.cancel(await desk.migrate())
                    finally:
                        await cordon(admin, "node1", "node2", unschedulable=False)
            await desk.settled()

            assert await stream.silent()
        async with dial(world, desk.stream()) as again:
            assert await hello(again)


async def start_copying(world: World, desk: Vm) -> str:
    """Migrate, wait until the memory is being copied, and return the name of the migration."""
    name = await desk.migrate()
    await desk.migration(name, lambda vmim: objects.phase(vmim) == "Running")
    await world.copying()
    return name
