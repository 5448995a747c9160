"""Who watches the devices hears of them and their use, now and at each change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from kubectl_vmredir.errors import UsbError, UsbUnavailable
from kubectl_vmredir.model import DeviceSelector, DeviceUse, LocalDevice
from kubectl_vmredir.service.interface import DeviceSeen, DevicesSeen
from kubectl_vmredir.service.looking import LOOK_TIMEOUT_S
from tests.support.fake_usb import FakeDevices, device
from tests.support.service_world import STICK, World, a_world
from tests.support.virtual_clock import after, at_rest

SECOND = device("STICK2", address=5, port="1-5")
IDLE = DeviceUse(("usb-storage",))
OURS = DeviceUse(("usbfs",))


class CountedDevices(FakeDevices):
    """Devices that can be looked at, but for those that hang or cannot be listed.

    Attributes:
        hanging: Those of which the kernel does not tell how they are used.
        looks: Those that were looked at, in order.
        trouble: Raised instead of listing them, if set.
    """

    def __init__(self, *devices: LocalDevice) -> None:
        super().__init__(*devices)
        self.hanging: set[LocalDevice] = set()
        self.looks: list[LocalDevice] = []
        self.trouble: UsbError | None = None

    def changed(self) -> None:
        self._changed.set()

    async def devices(self) -> Sequence[LocalDevice]:
        if self.trouble is not None:
            raise self.trouble
        return await super().devices()

    async def use(self, device: LocalDevice) -> DeviceUse:
        self.looks.append(device)
        if device in self.hanging:
            await asyncio.Event().wait()
        return await super().use(device)


async def test_watcher_hears_of_the_devices_and_their_use_at_once(world: World) -> None:
    world.devices.uses[device()] = IDLE

    async with world.service.watch_devices() as news:
        assert await anext(news) == DevicesSeen((DeviceSeen(device(), IDLE),))


async def test_watcher_hears_of_what_is_plugged_in_and_unplugged(world: World) -> None:
    async with world.service.watch_devices() as news:
        await anext(news)

        world.devices.plug(SECOND)
        both = await anext(news)
        world.devices.unplug(device())
        one = await anext(news)

    assert [seen.device for seen in both.devices] == [device(), SECOND]
    assert [seen.device for seen in one.devices] == [SECOND]


async def test_watcher_hears_when_a_device_of_ours_is_taken_and_given_back(world: World) -> None:
    world.devices.uses[device()] = IDLE
    async with world.service.watch_devices() as news:
        await anext(news)

        world.devices.uses[device()] = OURS
        bound = await world.bind()
        assert (await anext(news)).devices[0].use == OURS

        world.devices.uses[device()] = IDLE
        await world.service.pause(bound)
        assert (await anext(news)).devices[0].use == IDLE

        world.devices.uses[device()] = OURS
        await world.service.resume(bound)
        assert (await anext(news)).devices[0].use == OURS

        world.devices.uses[device()] = IDLE
        await world.service.unbind(bound)
        assert (await anext(news)).devices[0].use == IDLE


async def test_what_a_slow_watcher_has_missed_is_told_as_one(world: World) -> None:
    async with world.service.watch_devices() as news:
        await anext(news)
        for number in range(20):
            world.devices.plug(device(f"N{number}", address=20 + number, port=f"2-{number + 1}"))
            await at_rest()

        assert len((await anext(news)).devices) == 21
        world.devices.plug(SECOND)
        assert len((await anext(news)).devices) == 22


async def test_change_that_changes_nothing_is_not_told() -> None:
    devices = CountedDevices(device())
    async with a_world(devices=devices) as world, world.service.watch_devices() as news:
        await anext(news)
        waiting = world.background.create_task(_next(news), name="next")
        await at_rest()

        devices.changed()
        await after(1)
        assert len(devices.looks) == 2
        assert not waiting.done()

        devices.plug(SECOND)
        await at_rest()
        assert len(waiting.result().devices) == 2


async def _next(news: object) -> DevicesSeen:
    seen = await anext(news)  # type: ignore[call-overload]
    assert isinstance(seen, DevicesSeen)
    return seen


async def test_devices_that_cannot_be_listed_are_trouble_and_may_come_back() -> None:
    devices = CountedDevices(device())
    devices.trouble = UsbUnavailable("no USB bus", hint="Load a driver.")
    async with a_world(devices=devices) as world, world.service.watch_devices() as news:
        seen = await anext(news)
        assert seen.devices == ()
        assert seen.trouble is not None
        assert (seen.trouble.kind, seen.trouble.hint) == ("UsbUnavailable", "Load a driver.")

        devices.trouble = None
        devices.changed()

        assert await anext(news) == DevicesSeen((DeviceSeen(device(), DeviceUse()),))


async def test_device_that_hangs_is_listed_and_the_others_with_their_use() -> None:
    devices = CountedDevices(device(), SECOND)
    devices.hanging.add(device())
    devices.uses[SECOND] = IDLE
    async with a_world(devices=devices) as world, world.service.watch_devices() as news:
        begun = world.loop.time()

        hanging, answering = (await anext(news)).devices

        assert world.loop.time() - begun == LOOK_TIMEOUT_S
        assert answering == DeviceSeen(SECOND, IDLE)
        assert hanging.device == device()
        assert not hanging.use.known
        (why,) = hanging.use.findings
        assert why.message == "how device 1234:5678 is used here was not found out in 10 s"
        assert "dmesg" in why.hint


async def test_many_devices_that_hang_take_no_longer_than_one() -> None:
    many = [device(f"N{number}", address=20 + number, port=f"2-{number}") for number in range(1, 9)]
    devices = CountedDevices(*many)
    devices.hanging.update(many)
    async with a_world(devices=devices) as world, world.service.watch_devices() as news:
        begun = world.loop.time()

        await anext(news)

        assert world.loop.time() - begun == LOOK_TIMEOUT_S


async def test_device_that_hangs_is_not_looked_at_again_until_it_is_plugged_in_anew() -> None:
    devices = CountedDevices(device())
    devices.hanging.add(device())
    async with a_world(devices=devices) as world, world.service.watch_devices() as news:
        await anext(news)
        begun = world.loop.time()

        devices.plug(SECOND)
        assert len((await anext(news)).devices) == 2
        assert (devices.looks, world.loop.time()) == ([device(), SECOND], begun)

        devices.unplug(device())
        await anext(news)
        devices.hanging.clear()
        devices.plug(device())
        hanging = (await anext(news)).devices[-1]
        assert (hanging.device, hanging.use.known) == (device(), True)


async def test_device_that_is_unplugged_while_it_is_looked_at_is_left_out() -> None:
    class Vanishing(FakeDevices):
        async def use(self, device: LocalDevice) -> DeviceUse:
            if device == SECOND:
                self.unplug(SECOND)
            return await super().use(device)

    async with (
        a_world(devices=Vanishing(device(), SECOND)) as world,
        world.service.watch_devices() as news,
    ):
        assert [seen.device for seen in (await anext(news)).devices] == [device()]


async def test_watchers_hear_each_for_themselves(world: World) -> None:
    async with world.service.watch_devices() as first:
        await anext(first)
        async with world.service.watch_devices() as second:
            world.devices.plug(SECOND)

            assert len((await anext(second)).devices) == 2
        assert len((await anext(first)).devices) == 2


async def test_watch_may_be_left_before_anything_was_heard(world: World) -> None:
    async with world.service.watch_devices():
        pass

    assert await world.service.devices() == (device(),)


@pytest.mark.parametrize("selector", [STICK, DeviceSelector.parse("1-4")])
async def test_bind_is_not_held_up_by_a_watcher_who_does_not_listen(
    world: World, selector: DeviceSelector
) -> None:
    async with world.service.watch_devices():
        bound = await world.bind(selector)

        assert await world.state(bound) == "connected"
