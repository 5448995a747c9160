"""The virtual usb-host under a VM that wants to break it."""

from __future__ import annotations

import asyncio

import pytest

from kubectl_vmredir.lab.devices.function import Function
from kubectl_vmredir.lab.devices.keyboard import Keyboard
from kubectl_vmredir.lab.devices.serial_adapter import SerialAdapter
from kubectl_vmredir.lab.devices.smartcard import SmartcardReader
from kubectl_vmredir.lab.devices.source import VirtualDevices
from kubectl_vmredir.lab.devices.stick import Stick
from tests.support.assault import Assault

PACKETS = 2000


async def attack(function: Function) -> Assault:
    async with VirtualDevices([function]) as source:
        sockets = await source.claim((await source.devices())[0])
        with sockets.data, sockets.control:
            assault = Assault(sockets.data, seed=1)
            await asyncio.to_thread(assault.run, PACKETS)
    return assault


async def test_stick_outlives_whatever_a_vm_sends() -> None:
    assault = await attack(Stick("S1", bytes(1 << 16)))

    assert assault.right > 0.3 * assault.sent
    assert assault.passed > 0.3 * assault.sent
    assert all(assault.reasons.values()), assault.reasons


@pytest.mark.parametrize(
    "function",
    [Keyboard("K1"), SerialAdapter("A1"), SmartcardReader("C1")],
    ids=["keyboard", "serial adapter", "smartcard reader"],
)
async def test_other_devices_outlive_whatever_a_vm_sends(function: Function) -> None:
    assault = await attack(function)

    assert assault.right > 0.3 * assault.sent
    assert assault.passed > 0.3 * assault.sent
