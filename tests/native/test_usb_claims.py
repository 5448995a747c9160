"""Who may have a device: the one that was asked for, and nobody else's."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kubectl_vmredir.errors import (
    DeviceBusy,
    DeviceNotFound,
    DevicePermissionDenied,
    DeviceReleasing,
    UsbError,
    UsbUnavailable,
)
from kubectl_vmredir.model import RedirectionId
from kubectl_vmredir.service.gate import Gate
from kubectl_vmredir.service.sessions import DeviceSessions
from kubectl_vmredir.usb import library
from kubectl_vmredir.usb.claiming import prepare
from kubectl_vmredir.usb.hotplug import Hotplug
from kubectl_vmredir.usb.journal import Claim, FormerDriver, Journal, read_boot_id
from kubectl_vmredir.usb.process import UsbHosts
from kubectl_vmredir.usb.source import UsbDevices
from tests.support.usb_emulator import USBFS, EmulatedBus, EmulatedDevice, emulated_bus
from tests.support.usb_host_sockets import owned
from tests.support.usb_hosts import (
    CLAIMED,
    DRIVERS,
    TIMEOUT_S,
    claimed,
    ended,
    nobody_holds,
    saw,
)

pytestmark = pytest.mark.native

NOBODY = 65534

CLAIMED_EVENT = {"event": "claimed", "drivers": list(DRIVERS.values())}


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    """Be another user for a while."""
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


def left(device: EmulatedDevice, journal: Journal) -> None:
    """Write down the claim of a process that could not give its device back."""
    local = device.local
    with journal.lock(local.port_path) or pytest.fail("locked") as entry:
        former = tuple(FormerDriver(number, name) for number, name in DRIVERS.items())
        entry.write(
            Claim(journal.boot_id, local.port_path, local.ids, 1, local.address, 1, former, 1)
        )


async def test_of_two_that_are_alike_the_one_that_is_meant_is_taken(
    hosts: UsbHosts, bus: EmulatedBus
) -> None:
    first, second = bus.plug("SAME"), bus.plug("SAME")

    async with claimed(hosts, second):
        assert first.drivers == DRIVERS
        assert first.events == []
        assert second.drivers == CLAIMED


async def test_two_devices_have_a_process_each(hosts: UsbHosts, bus: EmulatedBus) -> None:
    first, second = bus.plug("ONE"), bus.plug("TWO")

    async with claimed(hosts, first) as one, claimed(hosts, second):
        await one.give_back()

        assert (first.drivers, second.drivers) == (DRIVERS, CLAIMED)


async def test_a_device_that_we_have_already_is_refused_with_the_process_that_has_it(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    async with claimed(hosts, device):
        pid = journal.holder(device.local.port_path)

        with pytest.raises(DeviceBusy, match=rf"another kubectl-vmredir \(process {pid}\)"):
            await hosts.start(device.local)


async def test_a_device_that_takes_long_to_be_given_back_is_not_said_to_be_anothers(
    bus: EmulatedBus, device: EmulatedDevice, journal: Journal
) -> None:
    async with UsbHosts(journal, root=bus.root, call_limit_s=3) as hosts:
        async with claimed(hosts, device):
            pid = journal.holder(device.local.port_path)
            device.hangs.add("reset")
        await saw(device, "hang")

        with pytest.raises(DeviceReleasing, match=f"process {pid} of ours") as caught:
            await hosts.start(device.local)

        device.hangs.clear()
        assert caught.value.retryable
        await saw(device, "closed")
        await nobody_holds(journal, device)
        with owned(await hosts.start(device.local), timeout_s=TIMEOUT_S) as guest:
            assert await guest.event() == CLAIMED_EVENT


async def test_a_device_that_another_program_just_gives_back_is_had_a_moment_later(
    hosts: UsbHosts, bus: EmulatedBus, device: EmulatedDevice, journal: Journal
) -> None:
    device.bind(0, "")
    device.bind(1, "")
    left(device, journal)
    device.hangs.add("reset")

    async def rescue() -> None:
        async with UsbHosts(journal, root=bus.root, call_limit_s=1):
            pass

    async with asyncio.TaskGroup() as others:
        others.create_task(rescue())
        await saw(device, "hang")
        device.hangs.clear()

        with owned(await hosts.start(device.local), timeout_s=TIMEOUT_S) as guest:
            assert await guest.event() == CLAIMED_EVENT


async def test_a_device_that_another_program_has_claimed_is_refused_and_left_alone(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    device.bind(1, USBFS)

    with pytest.raises(DeviceBusy) as caught:
        await hosts.start(device.local)

    assert "another user's program" in str(caught.value)
    assert caught.value.hint is not None
    assert "fuser" in caught.value.hint
    assert device.events == []
    assert journal.ports() == []
    assert journal.holder(device.local.port_path) is None


async def test_a_device_that_is_gone_is_not_found(hosts: UsbHosts, device: EmulatedDevice) -> None:
    device.unplug()

    with pytest.raises(DeviceNotFound):
        await hosts.start(device.local)


async def test_another_device_in_the_same_port_is_not_taken_for_the_one_that_is_meant(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    former = replace(device.local, address=99)

    with pytest.raises(DeviceNotFound):
        await hosts.start(former)
    assert device.events == []


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_node_that_this_user_may_not_open_says_how_to_allow_it(shim: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        with emulated_bus(folder / "root", shim) as bus:
            device = bus.plug()
            journal = Journal(folder / "claims", boot_id=read_boot_id(bus.root))

            with acting_as(NOBODY), pytest.raises(DevicePermissionDenied) as caught:
                prepare(device.local, journal, bus.root)

            assert caught.value.hint is not None
            assert "doctor --udev-rule" in caught.value.hint
            assert journal.holder(device.local.port_path) is None


@pytest.mark.parametrize("missing", ["libusb", "libusbredirhost"])
def test_a_missing_library_says_what_to_install(missing: str) -> None:
    with pytest.raises(UsbUnavailable, match=r"the library libnone\.so\.0") as caught:
        library.load(**{missing: "libnone.so.0"})

    assert caught.value.hint is not None
    assert "apt install libusbredirhost1 libusb-1.0-0" in caught.value.hint
    assert "dnf install" in caught.value.hint


async def test_a_claim_that_is_cancelled_is_undone(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(hosts.start(device.local))
        await asyncio.sleep(0)
        starting.cancel()
    await saw(device, "closed")
    await nobody_holds(journal, device)
    assert device.drivers == DRIVERS

    async with claimed(hosts, device):
        assert device.drivers == CLAIMED


async def test_a_device_that_was_mounted_while_its_process_started_is_left_alone(
    hosts: UsbHosts, bus: EmulatedBus, device: EmulatedDevice, journal: Journal
) -> None:
    disk = (bus.root / "sys/bus/usb/devices" / device.local.port_path).resolve() / "block/sdz"
    disk.mkdir(parents=True)
    (disk / "dev").write_text("65:144\n")
    blocks = bus.root / "sys/class/block"
    blocks.mkdir(parents=True)
    (blocks / "sdz").symlink_to(disk)
    mounts = bus.root / "proc/self/mountinfo"
    mounts.parent.mkdir(parents=True)
    mounts.write_text("90 28 65:144 / /media/stick rw - vfat /dev/sdz rw\n")

    with owned(await hosts.start(device.local), timeout_s=TIMEOUT_S) as guest:
        events = await ended(guest)

    finding = {
        "danger": "never",
        "message": "sdz is mounted for writing on /media/stick",
        "hint": "sudo umount --all-targets /dev/sdz",
    }
    assert events == [{"event": "unsafe", "finding": finding}]
    assert device.drivers == DRIVERS
    assert "reset" not in device.events
    assert journal.ports() == []


async def test_drivers_that_a_failed_rescue_did_not_bring_back_are_not_forgotten(
    bus: EmulatedBus, device: EmulatedDevice, journal: Journal
) -> None:
    device.bind(0, "")
    left(device, journal)
    prepared = prepare(device.local, journal, bus.root)

    with prepared:
        claim = prepared.entry.read()

    assert claim is not None
    assert claim.drivers == tuple(DRIVERS.values())


async def test_a_configuration_that_a_failed_rescue_did_not_bring_back_is_not_forgotten(
    bus: EmulatedBus, device: EmulatedDevice, journal: Journal
) -> None:
    left(device, journal)
    folder = bus.root / f"sys/bus/usb/devices/{device.local.port_path}"
    (folder / "bConfigurationValue").write_text("2\n")
    prepared = prepare(device.local, journal, bus.root)

    with prepared:
        claim = prepared.entry.read()

    assert claim is not None
    assert claim.configuration == 1
    assert claim.drivers == tuple(DRIVERS.values())


# -- as the service does it -------------------------------------------------------------------

HOLDER = RedirectionId("r1")


class NoEvents:
    """Nothing is plugged in, and nothing taken away."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def drain(self) -> None:
        raise AssertionError("nothing happened")


@pytest.fixture
async def devices(
    bus: EmulatedBus, device: EmulatedDevice, tmp_path: Path
) -> AsyncIterator[UsbDevices]:
    """Give a machine with one device."""
    silent, writer = os.pipe()
    hotplug = Hotplug(lambda: NoEvents(silent), lambda: [device.local])
    async with UsbDevices(claims=tmp_path / "claims", root=bus.root, hotplug=hotplug) as devices:
        yield devices
    os.close(silent)
    os.close(writer)


@pytest.fixture
async def sessions(devices: UsbDevices) -> AsyncIterator[DeviceSessions]:
    async with DeviceSessions(devices, Gate(lambda _: pytest.fail("no VM is involved"))) as all_:
        yield all_


async def test_a_device_in_use_by_us_says_by_which_process(
    devices: UsbDevices, sessions: DeviceSessions, journal: Journal
) -> None:
    (local,) = await devices.devices()
    session = await sessions.claim(local, HOLDER)

    use = await devices.use(local)

    assert session.usb_host.drivers == tuple(DRIVERS.values())
    assert use.redirected_by == journal.holder(local.port_path)
    assert use.drivers == (USBFS, USBFS)


async def test_a_device_that_is_just_given_back_is_not_said_to_be_redirected(
    devices: UsbDevices, device: EmulatedDevice, journal: Journal
) -> None:
    left(device, journal)
    with journal.lock(device.local.port_path) or pytest.fail("locked") as entry:
        entry.sign(given_back=True)

        assert (await devices.use(device.local)).redirected_by is None


async def test_a_session_hears_why_its_process_is_gone_and_the_next_one_can_begin(
    devices: UsbDevices, sessions: DeviceSessions, device: EmulatedDevice
) -> None:
    session = await sessions.claim(device.local, HOLDER)
    pid = (await devices.use(device.local)).redirected_by
    assert pid is not None

    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(TIMEOUT_S):
        while not session.lost:
            await session.bell.wait()

    assert session.lost == "the usb-host is gone: its process was ended by SIGKILL"
    assert device.drivers == DRIVERS
    await sessions.close(session)
    await sessions.claim(device.local, HOLDER)
    assert device.drivers == CLAIMED


async def test_a_session_hears_that_its_device_was_unplugged(
    sessions: DeviceSessions, device: EmulatedDevice
) -> None:
    session = await sessions.claim(device.local, HOLDER)

    device.unplug()
    async with asyncio.timeout(TIMEOUT_S):
        while not session.lost:
            await session.bell.wait()

    assert session.lost == "it was unplugged"


async def test_a_session_that_is_closed_gives_the_device_back(
    devices: UsbDevices, sessions: DeviceSessions, device: EmulatedDevice
) -> None:
    session = await sessions.claim(device.local, HOLDER)

    await sessions.close(session)

    assert device.drivers == DRIVERS
    assert (await devices.use(device.local)).redirected_by is None


async def test_an_error_in_the_body_comes_out_as_it_is(
    bus: EmulatedBus, device: EmulatedDevice, journal: Journal
) -> None:
    with pytest.raises(UsbError, match="of the body"):
        async with UsbHosts(journal, root=bus.root) as others:
            sockets = await others.start(device.local)
            raise UsbError("of the body")

    with sockets.data, sockets.control:
        assert device.drivers == DRIVERS


async def test_a_session_hears_that_another_program_was_faster(
    sessions: DeviceSessions, device: EmulatedDevice
) -> None:
    device.refuses["disconnect_claim"] = errno.EBUSY

    with pytest.raises(UsbError, match="Device is in use by another application"):
        await sessions.claim(device.local, HOLDER)
