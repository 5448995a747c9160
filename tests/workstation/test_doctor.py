"""What the doctor says on a real kernel with a real udev, and whether what it prints helps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.workstation.vm import WorkstationVm

pytestmark = [pytest.mark.workstation, pytest.mark.asyncio(loop_scope="session")]


async def checks(workstation: WorkstationVm) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit status of the doctor, and what it says."""
    done = await workstation.vmredir("doctor", "-o", "json")
    return done.status, json.loads(done.out)["items"]


async def test_nothing_failed_on_a_machine_that_works(workstation: WorkstationVm) -> None:
    await workstation.plug("usb-kbd", "DOCTOR1")

    status, said = await checks(workstation)

    by_name = {check["name"]: check["outcome"] for check in said}
    assert status == 0
    assert by_name == {
        "user": "ok",
        "libusb": "ok",
        "libusbredirhost": "ok",
        "libudev": "ok",
        "bus": "ok",
        "udev": "ok",
        "devices": "ok",
        "access": "ok",
        "groups": "ok",
        "rules": "ok",
        "claims": "ok",
    }


async def test_it_fails_if_no_device_may_be_opened(workstation: WorkstationVm) -> None:
    keyboard = await workstation.plug("usb-kbd", "DOCTOR2")
    await workstation.root("chmod", "0600", keyboard.node)

    status, said = await checks(workstation)

    assert status == 1
    assert {
        "name": "access",
        "outcome": "warning",
        "message": f"keyboard 0627:0001:DOCTOR2: this user may not open {keyboard.node}",
        "command": "kubectl vmredir doctor --udev-rule 0627:0001:DOCTOR2",
    } in said


async def test_rule_that_is_printed_is_for_that_device_alone(workstation: WorkstationVm) -> None:
    mine = await workstation.plug("usb-kbd", "DOCTOR3")
    other = await workstation.plug("usb-kbd", "DOCTOR4")
    rule = (await workstation.vmredir("doctor", "--udev-rule", "0627:0001:DOCTOR3")).check()
    lines = [line.removeprefix("#   ") for line in rule.splitlines()]
    (file,) = (line for line in lines if line.endswith(".rules"))
    commands = [line.removeprefix("sudo ") for line in lines if line.startswith("sudo ")]

    await workstation.root("sh", "-c", 'printf %s "$1" >"$2"', "sh", rule, file)
    for command in [*commands, "udevadm settle"]:
        await workstation.root("sh", "-c", command)

    tags = [
        await workstation.root("udevadm", "info", "--query=property", "--property=TAGS", at.node)
        for at in (mine, other)
    ]
    assert len(commands) == 2
    assert ["uaccess" in text for text in tags] == [True, False]


async def test_pcscd_is_named_with_the_command_that_frees_the_reader(
    workstation: WorkstationVm,
) -> None:
    await workstation.plug("usb-ccid", "DOCTOR5")
    async with workstation.agent.running("pcscd", "--foreground", "--debug", user="root") as pcscd:
        await pcscd.says("Using the reader polling thread")
        _, said = await checks(workstation)
        table = (await workstation.vmredir("devices", "--no-headers")).check()

    assert [check for check in said if check["name"] == "holder"] == [
        {
            "name": "holder",
            "outcome": "warning",
            "message": "smartcard 08e6:4433:DOCTOR5: pcscd (probably) has claimed it",
            "command": "sudo systemctl stop pcscd.socket pcscd",
        }
    ]
    assert "pcscd (probably)" in table
