"""Work that a signal cancels, and what is cleaned up after it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator, Sequence

import pytest

from kubectl_vmredir.cli.run import SIGNALS, until_signal, uses
from kubectl_vmredir.model import DeviceUse, LocalDevice
from tests.support.fake_usb import FakeDevices, device
from tests.support.virtual_clock import VirtualClockLoop


@pytest.fixture(autouse=True)
def loud_libraries() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("aiohttp", "asyncio")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def test_work_that_no_signal_ends_gives_its_result() -> None:
    async def work() -> str:
        return "done"

    assert until_signal(work()) == "done"


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_cancels_and_the_second_does_not_cut_the_cleaning_up_short(
    number: signal.Signals,
) -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
            steps.append("not cancelled")
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(5)
            steps.append("cleaned up")

    with pytest.raises(SystemExit) as ended:
        until_signal(work(), loop_factory=VirtualClockLoop)

    assert ended.value.code == 128 + number
    assert steps == ["cleaned up"]


def test_cancellation_of_another_kind_is_no_signal() -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        until_signal(work())


# -- devices ----------------------------------------------------------------------------------


class Changing(FakeDevices):
    """Devices of which one is unplugged as soon as they were listed."""

    async def devices(self) -> Sequence[LocalDevice]:
        found = await super().devices()
        self.unplug(found[0])
        return found


class HalfHanging(FakeDevices):
    """Devices of which the kernel does not tell how the first one is used."""

    async def use(self, device: LocalDevice) -> DeviceUse:
        if device == (await self.devices())[0]:
            await asyncio.Event().wait()
        return await super().use(device)


async def test_device_that_is_unplugged_while_it_is_looked_at_is_left_out() -> None:
    stays = device("STAYS", address=5, port="1-5")

    assert list(await uses(Changing(device(), stays))) == [(stays, DeviceUse())]


def test_device_that_hangs_is_listed_and_its_use_is_not_known() -> None:
    other = device("OTHER", address=5, port="1-5")
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        (hanging, use), answering = runner.run(uses(HalfHanging(device(), other)))

    assert hanging == device()
    assert not use.known
    (why,) = use.findings
    assert "was not found out in 10 s" in why.message
    assert "dmesg" in why.hint
    assert answering == (other, DeviceUse())
