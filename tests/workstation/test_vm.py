"""The workstation itself: what the other tests here take for granted."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.support.workstation.vm import WorkstationVm

pytestmark = [pytest.mark.workstation, pytest.mark.asyncio(loop_scope="session")]

STICK_BYTES = 1 << 20

LIST = """
import json, pyudev
devices = pyudev.Context().list_devices(subsystem="usb", DEVTYPE="usb_device")
print(json.dumps({device.properties.get("ID_SERIAL_SHORT"): device.sys_name for device in devices}))
"""


async def test_commands_run_as_the_user_who_is_asked_for(workstation: WorkstationVm) -> None:
    done = await workstation.user("sh", "-c", "id -un; echo $HOME; echo oops >&2; exit 7")

    assert (done.status, done.out, done.err) == (7, "user\n/home/user\n", "oops\n")
    assert await workstation.root("id", "-u") == "0\n"


async def test_clock_is_right_although_the_vm_was_restored(workstation: WorkstationVm) -> None:
    told = float(await workstation.root("date", "+%s.%N"))

    assert abs(told - time.time()) < 5


async def test_udev_knows_what_is_plugged_in_and_the_user_may_open_it(
    workstation: WorkstationVm, tmp_path: Path
) -> None:
    image = tmp_path / "stick"
    image.write_bytes(os.urandom(STICK_BYTES))

    stick = await workstation.plug_stick("FLASH001", image)
    keyboard = await workstation.plug("usb-kbd", "KEYS001")

    listed = json.loads((await workstation.user("python3", "-c", LIST)).check())
    assert listed["FLASH001"] == stick.port_path
    assert listed["KEYS001"] == keyboard.port_path
    (await workstation.user("sh", "-c", '[ -w "$1" ]', "sh", stick.node)).check()

    await workstation.unplug(stick)

    assert "FLASH001" not in json.loads((await workstation.user("python3", "-c", LIST)).check())


async def test_the_program_runs_from_this_checkout(workstation: WorkstationVm) -> None:
    from kubectl_vmredir import __version__

    assert __version__ in (await workstation.vmredir("version")).check()
