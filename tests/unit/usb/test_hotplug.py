from __future__ import annotations

import asyncio
import dataclasses
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from kubectl_vmredir.errors import UsbError, UsbUnavailable
from kubectl_vmredir.model import LocalDevice
from kubectl_vmredir.usb.hotplug import Hotplug
from tests.support.fake_usb import device

LIMIT_S = 5.0

STICK = device("STICK1", address=4, port="1-4")
TWIN = device("STICK2", address=5, port="1-5")


class Bus:
    """A USB bus whose events come when a test says so.

    Attributes:
        devices: What is plugged in.
        story: What was done to it, in order.
    """

    def __init__(self, *devices: LocalDevice) -> None:
        self.devices = list(devices)
        self.story: list[str] = []
        self.trouble: OSError | None = None
        self.missing: Exception | None = None
        self._looked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._socket, self._far = socket.socketpair()

    def listen(self) -> Bus:
        self.story.append("listen")
        return self

    def look(self) -> list[LocalDevice]:
        self.story.append("look")
        found = list(self.devices)
        self._loop.call_soon_threadsafe(self._looked.set)
        if self.missing is not None:
            raise self.missing
        return found

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        self._socket.recv(100)
        if self.trouble is not None:
            raise self.trouble

    def happen(self) -> None:
        self._far.send(b"event")

    async def happen_and_be_seen(self) -> None:
        self._looked.clear()
        self.happen()
        async with asyncio.timeout(LIMIT_S):
            await self._looked.wait()

    def close(self) -> None:
        self._socket.close()
        self._far.close()


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    bus = Bus(STICK)
    yield bus
    bus.close()


def hotplug_of(bus: Bus) -> Hotplug:
    return Hotplug(bus.listen, bus.look)


async def next_change(changes: AsyncGenerator[None, None]) -> None:
    async with asyncio.timeout(LIMIT_S):
        await anext(changes)


async def test_it_listens_before_it_looks(bus: Bus) -> None:
    async with hotplug_of(bus) as hotplug:
        assert list(hotplug.devices) == [STICK]

    assert bus.story == ["listen", "look"]


async def test_a_device_that_is_plugged_in_is_announced(bus: Bus) -> None:
    async with hotplug_of(bus) as hotplug, aclosing(hotplug.changes()) as changes:
        bus.devices.append(TWIN)
        bus.happen()

        await next_change(changes)
        assert list(hotplug.devices) == [STICK, TWIN]


async def test_a_device_that_is_taken_away_is_announced(bus: Bus) -> None:
    async with hotplug_of(bus) as hotplug, aclosing(hotplug.changes()) as changes:
        bus.devices.clear()
        bus.happen()

        await next_change(changes)
        assert list(hotplug.devices) == []


async def test_a_replug_is_announced_although_its_events_came_at_once(bus: Bus) -> None:
    async with hotplug_of(bus) as hotplug, aclosing(hotplug.changes()) as changes:
        bus.devices[:] = [device("STICK1", address=9, port="1-4")]
        bus.happen()
        bus.happen()

        await next_change(changes)
        assert [found.address for found in hotplug.devices] == [9]


async def test_events_that_change_no_device_are_not_announced(bus: Bus) -> None:
    async with hotplug_of(bus) as hotplug, aclosing(hotplug.changes()) as changes:
        await bus.happen_and_be_seen()  # unbind, bind, change: our own claim
        await bus.happen_and_be_seen()
        bus.devices.append(TWIN)
        bus.happen()

        await next_change(changes)
        assert list(hotplug.devices) == [STICK, TWIN]


async def test_a_better_word_is_shown_and_not_announced(bus: Bus) -> None:
    async with hotplug_of(bus) as hotplug, aclosing(hotplug.changes()) as changes:
        bus.devices[:] = [dataclasses.replace(STICK, word="security key")]
        await bus.happen_and_be_seen()
        bus.devices.append(TWIN)
        bus.happen()

        await next_change(changes)
        assert [found.kind for found in hotplug.devices] == ["security key", "storage"]


async def test_a_device_that_may_be_opened_now_is_announced(bus: Bus, tmp_path: Path) -> None:
    node = tmp_path / "004"
    bus.devices[:] = [dataclasses.replace(STICK, node=str(node))]

    async with hotplug_of(bus) as hotplug, aclosing(hotplug.changes()) as changes:
        node.touch()
        bus.happen()

        await next_change(changes)


async def test_changes_since_the_call_are_told_though_nobody_waited(bus: Bus) -> None:
    async with (
        hotplug_of(bus) as hotplug,
        aclosing(hotplug.changes()) as early,
        aclosing(hotplug.changes()) as late,
    ):
        bus.devices.append(TWIN)
        bus.happen()
        await next_change(early)

        await next_change(late)


async def test_changes_before_the_call_are_not_told(bus: Bus) -> None:
    async with hotplug_of(bus) as hotplug:
        async with aclosing(hotplug.changes()) as changes:
            bus.devices.append(TWIN)
            bus.happen()
            await next_change(changes)
        async with aclosing(hotplug.changes()) as later:
            bus.devices.clear()
            bus.happen()
            await next_change(later)

        assert list(hotplug.devices) == []


async def test_a_bus_that_goes_takes_its_devices_with_it(bus: Bus) -> None:
    async with hotplug_of(bus) as hotplug, aclosing(hotplug.changes()) as changes:
        bus.missing = UsbUnavailable("this machine has no USB bus")
        bus.happen()

        await next_change(changes)
        assert list(hotplug.devices) == []


async def test_a_machine_without_usb_is_told_at_once(bus: Bus) -> None:
    bus.missing = UsbUnavailable("this machine has no USB bus")

    with pytest.raises(UsbUnavailable):
        async with hotplug_of(bus):
            pass


async def test_a_kernel_that_does_not_answer_is_said_to_be_one(bus: Bus) -> None:
    answer = threading.Event()

    def look() -> list[LocalDevice]:
        assert answer.wait(LIMIT_S)
        return []

    with pytest.raises(UsbUnavailable, match=r"did not list the USB devices within 0\.01 s"):
        async with Hotplug(bus.listen, look, first_look_s=0.01):
            pass
    answer.set()


async def test_who_waits_is_told_when_nothing_more_will_be_heard(bus: Bus) -> None:
    async with hotplug_of(bus) as hotplug, aclosing(hotplug.changes()) as changes:
        bus.trouble = OSError(19, "No such device")
        bus.happen()

        with pytest.raises(UsbError, match="no longer heard of: No such device"):
            await next_change(changes)


async def test_a_bug_in_the_thread_is_not_silent(bus: Bus) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with hotplug_of(bus):
            bus.missing = ZeroDivisionError()
            bus.happen()
            await asyncio.sleep(3600)
    assert caught.group_contains(ZeroDivisionError)


async def test_a_kernel_that_hangs_does_not_hold_up_the_end(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    answer, hangs = threading.Event(), threading.Event()

    def look() -> list[LocalDevice]:
        if bus.story.count("look"):
            hangs.set()
            assert answer.wait(LIMIT_S)
        return bus.look()

    async with asyncio.timeout(LIMIT_S), Hotplug(bus.listen, look, last_look_s=0.01):
        (thread,) = (each for each in threading.enumerate() if each.name == "usb-hotplug")
        bus.happen()
        assert await asyncio.to_thread(hangs.wait, LIMIT_S)

    assert thread.is_alive()
    assert "the kernel still does not list the USB devices" in caplog.text
    answer.set()
    await asyncio.to_thread(thread.join, LIMIT_S)
    assert not thread.is_alive()


async def test_nothing_listens_after_the_end(bus: Bus) -> None:
    async with hotplug_of(bus):
        threads = [thread for thread in threading.enumerate() if "usb-hotplug" in thread.name]

    for thread in threads:
        thread.join(LIMIT_S)
    assert [thread.is_alive() for thread in threads] == [False]
