"""News of VMs, from a watch that repeats itself, breaks and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from kubectl_vmredir.errors import ClusterUnreachable, Forbidden
from kubectl_vmredir.model import DeviceSelector, VmiRef, VmiUid
from kubectl_vmredir.service.interface import (
    Trouble,
    VmiChanged,
    VmiNews,
    VmiRemoved,
    VmisSeen,
    VmisUncertain,
)
from kubectl_vmredir.service.ports import VmiGone, VmiSeen
from tests.support.fake_cluster import running
from tests.support.service_world import World, a_world
from tests.support.virtual_clock import at_rest


@asynccontextmanager
async def news_in(world: World) -> AsyncIterator[list[VmiNews]]:
    """Watch, and collect what is heard."""
    heard: list[VmiNews] = []

    async def listen() -> None:
        async with world.service.watch_vmis("demo") as news:
            async for item in news:
                heard.append(item)  # noqa: PERF401 - looked at while it grows

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(listen())
        await at_rest()
        yield heard
        listening.cancel()


async def test_all_vms_come_first_and_then_each_change_once() -> None:
    async with a_world(running(), running("win11")) as world, news_in(world) as heard:
        moved = replace(running(), node="node2")
        world.cluster.tell(VmiSeen(running()), VmiSeen(moved), VmiSeen(moved))
        world.cluster.tell(VmiGone(running("win11")))
        await at_rest()

        match heard:
            case [VmisSeen(vmis=all_of_them), VmiChanged(vmi=changed), VmiRemoved(vmi=gone)]:
                assert [entry.vmi.ref.name for entry in all_of_them] == ["fedora", "win11"]
                assert changed.vmi == moved
                assert [slot.name for slot in changed.slots] == ["flash", "key", "usb2", "usb3"]
                assert gone == VmiRef("demo", "win11")
            case _:
                raise AssertionError(heard)


async def test_end_of_a_vm_that_was_started_anew_meanwhile_is_no_news(world: World) -> None:
    async with news_in(world) as heard:
        again = replace(running(), uid=VmiUid("another"))
        world.cluster.tell(VmiSeen(again))
        world.cluster.tell(VmiGone(running()))
        await at_rest()

        assert [type(item) for item in heard] == [VmisSeen, VmiChanged]


async def test_after_a_time_without_news_all_vms_come_again(world: World) -> None:
    async with news_in(world) as heard:
        trouble = ClusterUnreachable("the API server is away")
        world.cluster.lose_watch(trouble)
        world.cluster.tell(VmiSeen(replace(running(), node="node2")))
        await at_rest()
        assert heard[1:] == [VmisUncertain(Trouble.of(trouble))]

        world.cluster.tell(VmiSeen(running("win11")))
        world.cluster.restore_watch()
        await at_rest()

        match heard[2:]:
            case [VmisSeen(vmis=seen)]:
                assert [(entry.vmi.ref.name, entry.vmi.node) for entry in seen] == [
                    ("fedora", "node2"),
                    ("win11", "node1"),
                ]
            case other:
                raise AssertionError(other)


async def test_slots_say_which_of_them_are_ours(world: World) -> None:
    bound = await world.bind(slot="key")

    async with news_in(world) as heard:
        assert isinstance(heard[0], VmisSeen)
        [entry] = heard[0].vmis

    assert [(slot.name, slot.redirection) for slot in entry.slots if slot.redirection] == [
        ("key", bound)
    ]
    assert DeviceSelector.parse(entry.slots[1].device).serial == "STICK1"


async def test_trouble_that_waiting_does_not_cure_ends_the_news(world: World) -> None:
    async with world.service.watch_vmis("demo") as news:
        await anext(news)
        world.cluster.break_watch(Forbidden("alice may not list VMIs"))

        with pytest.raises(Forbidden, match="alice may not"):
            await anext(news)


async def test_leaving_ends_the_watch(world: World) -> None:
    async with world.service.watch_vmis("demo") as news:
        await anext(news)

    world.cluster.tell(VmiSeen(running()))
    with pytest.raises(StopAsyncIteration):
        await anext(news)
