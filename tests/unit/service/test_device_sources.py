"""Several sources of devices as one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest

from kubectl_vmredir.errors import DeviceBusy, DeviceNotFound, UsbUnavailable
from kubectl_vmredir.model import Danger, DeviceUse, Finding
from kubectl_vmredir.service.device_sources import AllDevices, NoDevices
from kubectl_vmredir.service.ports import DeviceSource
from tests.support.fake_usb import FakeDevices, device

REAL = device("REAL1")
VIRTUAL = replace(device("VIRTUAL1", port="100-1"), bus=100, virtual=True)


NO_USB = NoDevices(UsbUnavailable("no USB here"))


class Deaf(FakeDevices):
    """Hears of no change any more, once the first one came."""

    async def changes(self) -> AsyncIterator[None]:
        async for _ in super().changes():
            yield
            raise UsbUnavailable("nothing more is heard")


async def test_devices_of_all_sources_are_listed_in_their_order() -> None:
    async with AllDevices([FakeDevices(VIRTUAL), FakeDevices(REAL)]) as devices:
        port: DeviceSource = devices

        assert await port.devices() == (VIRTUAL, REAL)


async def test_a_source_that_cannot_be_used_here_is_left_out() -> None:
    async with AllDevices([FakeDevices(VIRTUAL), NO_USB]) as devices:
        assert await devices.devices() == (VIRTUAL,)


async def test_an_empty_source_is_enough_for_an_empty_list() -> None:
    async with AllDevices([FakeDevices(), NO_USB]) as devices:
        assert await devices.devices() == ()


async def test_no_source_that_can_be_used_here_is_an_error() -> None:
    async with AllDevices([NO_USB]) as devices:
        with pytest.raises(UsbUnavailable, match="no USB here"):
            await devices.devices()


async def test_a_device_is_claimed_from_the_source_that_has_it() -> None:
    virtual, real = FakeDevices(VIRTUAL), FakeDevices(REAL)
    async with AllDevices([virtual, real]) as devices:
        sockets = await devices.claim(REAL)

    assert (len(virtual.hosts), len(real.hosts)) == (0, 1)
    sockets.data.close()
    sockets.control.close()
    real.end()


async def test_the_source_says_why_a_claim_fails() -> None:
    real = FakeDevices(REAL)
    real.refusal = DeviceBusy(REAL, "pcscd")
    async with AllDevices([FakeDevices(VIRTUAL), real]) as devices:
        with pytest.raises(DeviceBusy, match="held by pcscd"):
            await devices.claim(REAL)


async def test_use_is_what_the_source_of_the_device_sees() -> None:
    real = FakeDevices(REAL)
    real.uses[REAL] = DeviceUse(("usb-storage",), True, findings=(Finding(Danger.NEVER, "root"),))
    async with AllDevices([FakeDevices(VIRTUAL), real]) as devices:
        assert await devices.use(REAL) == real.uses[REAL]
        assert await devices.use(VIRTUAL) == DeviceUse()


async def test_a_device_that_came_after_the_list_is_found() -> None:
    real = FakeDevices()
    async with AllDevices([FakeDevices(VIRTUAL), real]) as devices:
        assert await devices.devices() == (VIRTUAL,)
        real.plug(REAL)

        assert await devices.use(REAL) == DeviceUse()


@pytest.mark.parametrize("listed", [True, False], ids=["listed before", "never listed"])
async def test_a_device_that_is_gone_is_not_found(listed: bool) -> None:
    real = FakeDevices(REAL)
    async with AllDevices([FakeDevices(VIRTUAL), real]) as devices:
        if listed:
            await devices.devices()
        real.unplug(REAL)

        with pytest.raises(DeviceNotFound, match="REAL1"):
            await devices.use(REAL)


async def test_a_change_of_any_source_is_told_to_everybody_who_listens() -> None:
    virtual, real = FakeDevices(VIRTUAL), FakeDevices(REAL)
    async with (
        asyncio.timeout(1),
        AllDevices([virtual, NO_USB, real]) as devices,
        aclosing(devices.changes()) as one,
        aclosing(devices.changes()) as other,
    ):
        for source, plugged in ((virtual, VIRTUAL), (real, REAL)):
            source.unplug(plugged)

            await anext(one)
            await anext(other)


async def test_an_error_of_the_body_comes_out_as_it_is() -> None:
    with pytest.raises(BrokenPipeError):
        async with AllDevices([FakeDevices(REAL)]):
            raise BrokenPipeError


async def test_a_source_that_hears_nothing_more_says_so_and_does_not_end_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    deaf, real = Deaf(VIRTUAL), FakeDevices(REAL)
    async with (
        asyncio.timeout(1),
        AllDevices([deaf, real]) as devices,
        aclosing(devices.changes()) as changes,
    ):
        deaf.unplug(VIRTUAL)
        await anext(changes)

        real.unplug(REAL)
        await anext(changes)
    (warning,) = caplog.records
    assert warning.levelname == "WARNING"
    assert "is not seen any more" in warning.getMessage()


async def test_a_machine_without_usb_says_so_whatever_is_asked() -> None:
    for question in (NO_USB.devices(), NO_USB.use(REAL), NO_USB.claim(REAL)):
        with pytest.raises(UsbUnavailable, match="no USB here"):
            await question


async def test_leaving_it_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with AllDevices([FakeDevices(VIRTUAL), FakeDevices(REAL)]):
        pass

    assert asyncio.all_tasks() == before
