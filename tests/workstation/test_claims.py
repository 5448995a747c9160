"""Which device is taken, how it is given back, and what happens when it is pulled out."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from kubectl_vmredir.errors import ExitCode
from tests.support.workstation.binding import CONNECTED, binding, bound
from tests.support.workstation.target import Target
from tests.support.workstation.vm import Plugged, WorkstationVm

pytestmark = [pytest.mark.workstation, pytest.mark.asyncio(loop_scope="session")]

STICK_BYTES = 1 << 20
STICK = "46f4:0001"

CLI = "kubectl-vmredir bind"
USB_HOST = "kubectl_vmredir usb-host"


def disk(serial: str) -> str:
    return f"/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_{serial}-0:0"


def stick_file(folder: Path, serial: str) -> Path:
    path = folder / serial
    path.write_bytes(os.urandom(STICK_BYTES))
    return path


async def driver_of(workstation: WorkstationVm, stick: Plugged) -> str:
    """Return the kernel driver of the first interface; empty for none."""
    link = f"/sys/bus/usb/devices/{stick.port_path}/{stick.port_path}:1.0/driver"
    return (await workstation.root("sh", "-c", 'basename "$(readlink "$1")"', "sh", link)).strip()


async def is_back(workstation: WorkstationVm, image: Path) -> None:
    """Wait until the stick in that file is a disk of the workstation again, and read it."""
    await workstation.root("udevadm", "wait", "--timeout=10", disk(image.name))
    read = await workstation.root("sha256sum", disk(image.name))
    assert read.split()[0] == sha256(image)


def sha256(image: Path) -> str:
    return hashlib.sha256(image.read_bytes()).hexdigest()


async def test_serial_number_decides_between_identical_sticks(
    workstation: WorkstationVm, target: Target, tmp_path: Path
) -> None:
    one = await workstation.plug_stick("TWIN001", stick_file(tmp_path, "TWIN001"))
    two = await workstation.plug_stick("TWIN002", stick_file(tmp_path, "TWIN002"))

    async with bound(workstation, target, f"{STICK}:TWIN002", "TWIN002"):
        assert await driver_of(workstation, one) == "usb-storage"
        assert await driver_of(workstation, two) == "usbfs"
        seen = await target.shell("cat /sys/bus/usb/devices/*/serial")

    assert "TWIN001" not in seen


async def test_ids_alone_do_not_choose_between_identical_sticks(
    workstation: WorkstationVm, target: Target, tmp_path: Path
) -> None:
    await workstation.plug_stick("TWIN001", stick_file(tmp_path, "TWIN001"))
    await workstation.plug_stick("TWIN002", stick_file(tmp_path, "TWIN002"))

    async with binding(workstation, STICK) as bind:
        done = await bind.end()

    assert done.status == ExitCode.DEVICE
    assert f"{STICK}:TWIN001" in done.err
    assert f"{STICK}:TWIN002" in done.err


async def test_stick_that_is_pulled_out_and_plugged_in_again_is_bound_again(
    workstation: WorkstationVm, target: Target, tmp_path: Path
) -> None:
    file = stick_file(tmp_path, "FLASH001")
    stick = await workstation.plug_stick("FLASH001", file)
    async with bound(workstation, target, f"{STICK}:FLASH001", "FLASH001") as bind:
        await workstation.unplug(stick)
        await bind.says(" waiting-device: ")
        await workstation.plug_stick("FLASH001", file)
        await bind.says(CONNECTED, times=2)
        await target.appears("FLASH001")


async def test_device_that_the_user_may_not_open_is_refused_with_the_rule_that_helps(
    workstation: WorkstationVm, target: Target, tmp_path: Path
) -> None:
    stick = await workstation.plug_stick("FLASH001", stick_file(tmp_path, "FLASH001"))
    await workstation.root("chmod", "600", stick.node)

    listed = await workstation.vmredir("devices", "-o", "json")
    async with binding(workstation, f"{STICK}:FLASH001") as bind:
        done = await bind.end()

    (item,) = json.loads(listed.check())["items"]
    assert item["use"]["openable"] is False
    assert done.status == ExitCode.DEVICE
    assert f"permission denied on {stick.node}" in done.err
    assert f"kubectl vmredir doctor --udev-rule {STICK}:FLASH001" in done.err


async def test_stick_is_back_when_the_command_was_killed(
    workstation: WorkstationVm, target: Target, tmp_path: Path
) -> None:
    file = stick_file(tmp_path, "FLASH001")
    await workstation.plug_stick("FLASH001", file)
    async with binding(workstation, f"{STICK}:FLASH001") as bind:
        await bind.says(CONNECTED)

        await workstation.root("pkill", "-KILL", "-f", CLI)

        await is_back(workstation, file)


async def test_stick_is_taken_again_when_the_usb_host_was_killed(
    workstation: WorkstationVm, target: Target, tmp_path: Path
) -> None:
    file = stick_file(tmp_path, "FLASH001")
    await workstation.plug_stick("FLASH001", file)
    async with bound(workstation, target, f"{STICK}:FLASH001", "FLASH001") as bind:
        await workstation.root("pkill", "-KILL", "-f", USB_HOST)

        await bind.says(CONNECTED, times=2)
        await target.appears("FLASH001")
    await is_back(workstation, file)


async def test_stick_is_back_at_the_next_start_when_both_were_killed(
    workstation: WorkstationVm, target: Target, tmp_path: Path
) -> None:
    file = stick_file(tmp_path, "FLASH001")
    stick = await workstation.plug_stick("FLASH001", file)
    async with binding(workstation, f"{STICK}:FLASH001") as bind:
        await bind.says(CONNECTED)
        await workstation.root("pkill", "-KILL", "-f", f"{USB_HOST}|{CLI}")
        await bind.end()
        assert await driver_of(workstation, stick) == ""

        (await workstation.vmredir("devices")).check()

    await is_back(workstation, file)
