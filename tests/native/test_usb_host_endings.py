"""However a redirection ends, it is said why, and the device has its kernel drivers again."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubectl_vmredir.protocol.constants import Status
from kubectl_vmredir.protocol.control import DeviceDisconnect, FilterReject, Reset
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket
from kubectl_vmredir.usb.journal import Journal
from kubectl_vmredir.usb.process import UsbHosts
from tests.support.usb_emulator import BULK_IN, ECHO, USBFS, EmulatedBus, EmulatedDevice
from tests.support.usb_host_sockets import owned
from tests.support.usb_hosts import (
    CLAIMED,
    DRIVERS,
    TIMEOUT_S,
    claimed,
    ended,
    nobody_holds,
    saw,
    status,
)

pytestmark = pytest.mark.native

ROOT = Path(__file__).parents[2]

TAKEN = ["detach fake-storage", "detach fake-input", "reset"]
GIVEN_BACK = ["reset", "attach fake-storage", "attach fake-input", "closed"]

HUNG = {"event": "error", "message": "the usb-host is gone: the device, or its driver, hung"}
KILLED = {"event": "error", "message": "the usb-host is gone: its process was ended by SIGKILL"}
UNPLUGGED = {"event": "lost", "reason": "it was unplugged"}


def usb_host_pid(journal: Journal, device: EmulatedDevice) -> int:
    pid = journal.holder(device.local.port_path)
    assert pid
    return pid


# -- orderly ends -----------------------------------------------------------------------------


async def test_a_claim_takes_the_drivers_and_resets_once(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device):
        assert device.events == TAKEN
        assert device.drivers == CLAIMED


async def test_end_of_file_gives_the_device_back(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    async with claimed(hosts, device) as guest:
        await guest.give_back()

        assert device.drivers == DRIVERS
        assert journal.holder(device.local.port_path) is None
        assert journal.ports() == []
        await saw(device, "closed")
        assert device.events == TAKEN + GIVEN_BACK


async def test_the_device_can_be_claimed_again_as_soon_as_the_control_socket_ends(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    for _ in range(3):
        async with claimed(hosts, device) as guest:
            await guest.give_back()

    assert device.events.count("reset") == 6


@pytest.mark.parametrize("line", [b'{"request": "stop"}\n', b"x" * 5000])
async def test_a_request_to_stop_gives_the_device_back_as_does_one_without_end(
    hosts: UsbHosts, device: EmulatedDevice, line: bytes
) -> None:
    async with claimed(hosts, device) as guest:
        await guest.request(line)

        assert await ended(guest) == []
        assert device.drivers == DRIVERS


async def test_other_requests_change_nothing(hosts: UsbHosts, device: EmulatedDevice) -> None:
    async with claimed(hosts, device) as guest:
        await guest.request(b'{"request": "dance"}\n[]\nno JSON\n{"request": ')
        await guest.request(b'"stop"}\n')

        assert await ended(guest) == []


async def test_sigterm_gives_the_device_back_and_sigint_does_not(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    async with claimed(hosts, device) as guest:
        pid = usb_host_pid(journal, device)
        os.kill(pid, signal.SIGINT)
        await guest.send(ControlPacket(0x80, ECHO, 0xC0, Status.SUCCESS, 0, 0, 1), 1)
        await guest.receive()
        os.kill(pid, signal.SIGTERM)

        assert await ended(guest) == []
        assert device.drivers == DRIVERS


async def test_leaving_the_context_gives_back_what_is_claimed(
    bus: EmulatedBus, device: EmulatedDevice, journal: Journal
) -> None:
    async with UsbHosts(journal, root=bus.root) as hosts:
        sockets = await hosts.start(device.local)

    with sockets.data, sockets.control:
        assert device.drivers == DRIVERS


async def test_transfers_under_way_do_not_keep_the_device(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device) as guest:
        await guest.send(BulkPacket(BULK_IN, Status.SUCCESS, 512, 0), 1)
        await asyncio.to_thread(device.wait_for, lambda: device.under_way == 1)

        await guest.give_back()

        assert device.under_way == 0
        assert device.drivers == DRIVERS


async def test_a_guest_that_does_not_want_the_device_ends_the_session(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device) as guest:
        await guest.send(FilterReject())

        assert await ended(guest) == [
            {"event": "error", "message": "the VM does not let the device in"}
        ]
        assert device.drivers == DRIVERS


# -- the device goes --------------------------------------------------------------------------


async def test_unplugging_an_idle_device_is_told_to_parent_and_guest(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    async with claimed(hosts, device) as guest:
        device.unplug()

        assert await guest.event() == UNPLUGGED
        assert (await guest.receive())[1] == DeviceDisconnect()
        with pytest.raises(EOFError):
            await guest.receive()
        assert await ended(guest) == []
        assert journal.ports() == []


async def test_a_device_that_is_unplugged_while_it_is_claimed_is_lost(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    with owned(await hosts.start(device.local), timeout_s=TIMEOUT_S) as guest:
        device.unplug()

        events = await ended(guest)

    assert events == [UNPLUGGED]
    assert journal.ports() == []


async def test_transfers_under_way_fail_when_the_device_is_unplugged(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device) as guest:
        await guest.send(BulkPacket(BULK_IN, Status.SUCCESS, 512, 0), 3)
        await asyncio.to_thread(device.wait_for, lambda: device.under_way == 1)
        device.unplug()

        packets = [await guest.receive(), await guest.receive()]

        assert (3, BulkPacket(BULK_IN, Status.IOERROR, 0, 0)) in packets
        assert DeviceDisconnect() in [packet for _, packet in packets]
        assert await ended(guest) == [UNPLUGGED]


async def test_a_device_that_a_reset_does_not_bring_back_is_lost(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device) as guest:
        await guest.send(ControlPacket(0x80, ECHO, 0xC0, Status.SUCCESS, 0, 0, 1), 1)
        await guest.receive()
        device.refuses["reset"] = errno.ENODEV
        await guest.send(Reset())

        events = await ended(guest)

    assert events == [{"event": "lost", "reason": "error resetting device: LIBUSB_ERROR_NOT_FOUND"}]
    assert device.drivers == DRIVERS


async def test_a_device_that_cannot_be_reset_at_first_is_refused_and_given_back(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    device.refuses["reset"] = errno.EIO
    with owned(await hosts.start(device.local), timeout_s=TIMEOUT_S) as guest:
        events = await ended(guest)

    assert events == [{"event": "error", "message": "error resetting device: LIBUSB_ERROR_OTHER"}]
    assert device.drivers == DRIVERS


async def test_an_interface_that_another_program_takes_just_now_is_left_to_it(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    device.refuses["disconnect_claim"] = errno.EBUSY
    with owned(await hosts.start(device.local), timeout_s=TIMEOUT_S) as guest:
        events = await ended(guest)

    assert events == [{"event": "error", "message": "Device is in use by another application"}]
    assert device.drivers == DRIVERS


# -- the process goes -------------------------------------------------------------------------


async def test_a_killed_process_is_said_and_the_drivers_come_back_at_once(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    async with claimed(hosts, device) as guest:
        os.kill(usb_host_pid(journal, device), signal.SIGKILL)

        assert await ended(guest) == [KILLED]
        assert device.drivers == DRIVERS
        assert journal.ports() == []


async def test_an_interface_that_had_no_driver_gets_none(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    device.bind(1, "")
    async with claimed(hosts, device) as guest:
        os.kill(usb_host_pid(journal, device), signal.SIGKILL)
        await ended(guest)

    rescue = device.events[device.events.index("closed") + 1 :]
    assert rescue[:2] == ["reset", "attach fake-storage"]
    assert device.drivers == {0: "fake-storage", 1: ""}


async def test_a_call_that_hangs_ends_the_process_and_is_said(
    bus: EmulatedBus, device: EmulatedDevice, journal: Journal
) -> None:
    async with (
        UsbHosts(journal, root=bus.root, call_limit_s=2) as hosts,
        claimed(hosts, device) as guest,
    ):
        await guest.send(ControlPacket(0x80, ECHO, 0xC0, Status.SUCCESS, 0, 0, 1), 1)
        await guest.receive()
        device.hangs.add("reset")
        await guest.send(Reset())
        await saw(device, "hang")
        device.hangs.clear()

        assert await ended(guest) == [HUNG]
        assert device.drivers == DRIVERS


async def test_a_device_that_hangs_when_it_is_claimed_is_refused(
    bus: EmulatedBus, device: EmulatedDevice, journal: Journal
) -> None:
    device.hangs.add("disconnect_claim")
    async with UsbHosts(journal, root=bus.root, call_limit_s=1) as hosts:
        with owned(await hosts.start(device.local), timeout_s=TIMEOUT_S) as guest:
            assert await ended(guest) == [HUNG]

    assert device.drivers == DRIVERS
    assert journal.ports() == []


async def test_a_device_that_hangs_for_good_is_given_back_at_the_next_start(
    bus: EmulatedBus,
    device: EmulatedDevice,
    journal: Journal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        UsbHosts(journal, root=bus.root, call_limit_s=1) as hosts,
        claimed(hosts, device) as guest,
    ):
        device.hangs |= {"reset", "ioctl"}
        await guest.give_back()

    assert device.drivers == {0: "", 1: ""}
    assert "the device in port 1-1 is not given back to its drivers" in caplog.text
    device.hangs.clear()
    async with UsbHosts(journal, root=bus.root):
        assert device.drivers == DRIVERS
    assert journal.ports() == []


async def test_drivers_that_the_kernel_does_not_take_back_are_said_to_be_missing(
    hosts: UsbHosts,
    device: EmulatedDevice,
    journal: Journal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kubectl_vmredir.usb.process")
    async with claimed(hosts, device) as guest:
        device.refuses["ioctl"] = errno.EIO
        os.kill(usb_host_pid(journal, device), signal.SIGKILL)
        await ended(guest)

    assert device.drivers == {0: "", 1: ""}
    assert "is not given back to its drivers (the kernel refuses): plug it in anew" in caplog.text
    assert "has its drivers again" not in caplog.text
    assert journal.ports() == [device.local.port_path]


async def test_a_rescue_leaves_the_claim_of_another_program_alone(
    bus: EmulatedBus, device: EmulatedDevice, journal: Journal, tmp_path: Path
) -> None:
    async with parent(bus, device, tmp_path) as (process, pid):
        process.send_signal(signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        await saw(device, "closed")
        await nobody_holds(journal, device)
        process.kill()
    device.bind(0, USBFS)
    device.events.clear()

    async with UsbHosts(journal, root=bus.root):
        pass

    assert device.drivers == {0: USBFS, 1: "fake-input"}
    assert "reset" not in device.events


async def test_a_killed_parent_takes_nothing_with_it(
    bus: EmulatedBus, device: EmulatedDevice, journal: Journal, tmp_path: Path
) -> None:
    async with parent(bus, device, tmp_path) as (process, _):
        process.kill()
        await nobody_holds(journal, device)

    assert device.drivers == DRIVERS
    assert journal.ports() == []


async def test_after_both_were_killed_the_next_start_gives_the_device_back(
    bus: EmulatedBus, device: EmulatedDevice, journal: Journal, tmp_path: Path
) -> None:
    async with parent(bus, device, tmp_path) as (process, pid):
        process.send_signal(signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        await saw(device, "closed")
        await nobody_holds(journal, device)
        process.kill()
    assert device.drivers == {0: "", 1: ""}
    assert journal.ports() == ["1-1"]

    async with UsbHosts(journal, root=bus.root):
        assert device.drivers == DRIVERS
    assert device.events[:-1] == [*TAKEN, "closed", *GIVEN_BACK[:-1]]
    assert journal.ports() == []


async def test_a_configuration_that_the_guest_chose_is_undone_by_a_rescue(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    async with claimed(hosts, device) as guest:
        device.configuration = 2
        os.kill(usb_host_pid(journal, device), signal.SIGKILL)

        await ended(guest)

        assert device.configuration == 1
        assert device.drivers == DRIVERS


async def test_what_is_gone_after_a_crash_needs_no_rescue(
    bus: EmulatedBus, device: EmulatedDevice, journal: Journal, tmp_path: Path
) -> None:
    async with parent(bus, device, tmp_path) as (process, pid):
        process.send_signal(signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        await saw(device, "closed")
        await nobody_holds(journal, device)
        process.kill()
    device.unplug()

    async with UsbHosts(journal, root=bus.root):
        assert journal.ports() == []


# -- the process itself -----------------------------------------------------------------------


async def test_the_process_has_no_more_rights_and_files_than_it_needs(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    async with claimed(hosts, device):
        pid = usb_host_pid(journal, device)

        assert status(pid)["NoNewPrivs"] == "1"
        assert os.getsid(pid) == pid
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (64, 64)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into a usb-host")
async def test_the_process_has_none_of_the_files_that_its_parent_has(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    with secret.open("w") as file:
        os.set_inheritable(file.fileno(), True)
        async with claimed(hosts, device):
            folder = f"/proc/{usb_host_pid(journal, device)}/fd"
            files = {os.readlink(f"{folder}/{number}") for number in os.listdir(folder)}

    assert str(secret) not in files
    assert str(tmp_path / f"claims/{device.local.port_path}.json") in files


async def test_what_the_libraries_say_is_logged_and_not_shown(
    hosts: UsbHosts,
    device: EmulatedDevice,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG, "kubectl_vmredir.usb.process")
    monkeypatch.setenv("LIBUSB_DEBUG", "4")

    async with claimed(hosts, device) as guest:
        await guest.give_back()

    assert "libusb: debug" in caplog.text
    assert capfd.readouterr() == ("", "")


# -- support ----------------------------------------------------------------------------------


@asynccontextmanager
async def parent(
    bus: EmulatedBus, device: EmulatedDevice, tmp_path: Path
) -> AsyncIterator[tuple[Process, int]]:
    """Give a program that has claimed a device, and its usb-host's process id."""
    local = device.local
    assert local.node is not None
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.usb_parent",
        bus.root, tmp_path / "claims", local.port_path, local.node,
        stdout=PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield process, int(await process.stdout.readline())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
