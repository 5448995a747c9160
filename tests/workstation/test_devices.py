"""What ``kubectl vmredir devices`` says of devices that a real kernel and a real udev know."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.workstation.security_key import plugged_security_key
from tests.support.workstation.vm import WorkstationVm

pytestmark = [pytest.mark.workstation, pytest.mark.asyncio(loop_scope="session")]

STICK_BYTES = 1 << 20


async def listed(workstation: WorkstationVm) -> dict[str, Any]:
    """Return what the ordinary user is told, by serial number."""
    text = (await workstation.vmredir("devices", "-o", "json")).check()
    return {device["serial"]: device for device in json.loads(text)["items"]}


async def test_each_kind_of_device_is_listed_with_its_word(
    workstation: WorkstationVm, tmp_path: Path
) -> None:
    image = tmp_path / "stick"
    image.write_bytes(os.urandom(STICK_BYTES))
    await workstation.plug_stick("STORAGE1", image)
    await workstation.plug("usb-kbd", "KEYBOARD1")
    await workstation.plug("usb-mouse", "MOUSE1")
    await workstation.plug_serial_adapter("SERIAL1")
    await workstation.plug("usb-ccid", "SMARTCARD1")
    await workstation.plug_sound_card("AUDIO1")
    await workstation.plug("usb-hub", "HUB1")
    async with plugged_security_key(workstation, "KEY1"):
        devices = await listed(workstation)

    assert {serial: device["kind"] for serial, device in devices.items()} == {
        "STORAGE1": "storage",
        "KEYBOARD1": "keyboard",
        "MOUSE1": "mouse",
        "SERIAL1": "serial",
        "SMARTCARD1": "smartcard",
        "AUDIO1": "audio",
        "KEY1": "security key",
    }
