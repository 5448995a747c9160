"""The virtual usb-host under a VM that wants to break it."""

from __future__ import annotations

import asyncio

import pytest

from kubectl_vmredir.lab.devices.function import Function
from kubectl_vmredir.lab.devices.keyboard import Keyboard
from kubectl_vmredir.lab.devices.source import VirtualDevices
from kubectl_vmredir.lab.devices.stick import Stick
from tests.support.hostile_vm import Assault

PACKETS = 3000


@pytest.mark.parametrize(
    "function", [Stick("S1", bytes(1 << 16)), Keyboard("K1")], ids=["stick", "keyboard"]
)
async def test_nothing_that_a_vm_sends_breaks_the_usb_host(function: Function) -> None:
    async with VirtualDevices([function]) as source:
        sockets = await source.claim((await source.devices())[0])
        with sockets.data, sockets.control:
            assault = Assault(sockets.data, seed=1)

            await asyncio.to_thread(assault.run, PACKETS)

    assert assault.right > 0.3 * assault.sent
    assert assault.passed > 0.3 * PACKETS
