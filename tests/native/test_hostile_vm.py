"""A hostile VM against libusbredirhost and libusb; ``make fuzz`` sends a million packets."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from kubectl_vmredir.usb.process import UsbHosts
from tests.support.assault import Assault
from tests.support.usb_emulator import EmulatedDevice

pytestmark = pytest.mark.native

PACKETS: Final = int(os.environ.get("VMREDIR_FUZZ_PACKETS", "50000"))
SEED: Final = int(os.environ.get("VMREDIR_FUZZ_SEED", "1"))


@pytest.fixture(autouse=True)
def quick_turns() -> Iterator[None]:
    """Let VM and device, which are threads of this process, not wait for each other."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    yield
    sys.setswitchinterval(before)


async def test_nothing_that_a_vm_sends_breaks_the_usb_host(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    sockets = await hosts.start(device.local)
    with sockets.data, sockets.control:
        assault = Assault(sockets.data, SEED)

        await asyncio.to_thread(assault.run, PACKETS)

    print(f"{assault.sent} sent, {assault.right} of them right, {assault.passed} passed")  # noqa: T201
    print(*(f"{count:8} {reason}" for reason, count in assault.reasons.items()), sep="\n")  # noqa: T201
    assert assault.right >= 0.3 * assault.sent
    assert all(assault.reasons.values()), assault.reasons
