"""A guest of a real usb-host process, and what can be seen of such a process from outside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kubectl_vmredir.usb.journal import Journal
from kubectl_vmredir.usb.process import UsbHosts
from tests.support.usb_emulator import EmulatedDevice
from tests.support.usb_host_sockets import SocketGuest, owned

TIMEOUT_S = 20.0
"""A process starts, on a machine that others use as well."""

DRIVERS = {0: "fake-storage", 1: "fake-input"}
CLAIMED = {0: "usbfs", 1: "usbfs"}


@asynccontextmanager
async def claimed(hosts: UsbHosts, device: EmulatedDevice) -> AsyncIterator[SocketGuest]:
    """Give a guest that has the device plugged in; drops its sockets in the end."""
    drivers = list(device.drivers.values())
    with owned(await hosts.start(device.local), timeout_s=TIMEOUT_S) as guest:
        assert await guest.event() == {"event": "claimed", "drivers": drivers}
        await guest.connect()
        yield guest


async def ended(guest: SocketGuest) -> list[object]:
    """Wait until the usb-host has done its last; return what it said on the control socket."""
    events = []
    with contextlib.suppress(EOFError):
        while True:
            events.append(await guest.event())
    return events


async def saw(device: EmulatedDevice, event: str) -> None:
    """Wait until something was done to the device."""
    await asyncio.to_thread(device.wait_for, lambda: event in device.events)


async def nobody_holds(journal: Journal, device: EmulatedDevice) -> None:
    """Wait until no process has the device any more; one that was killed takes a moment to go."""
    async with asyncio.timeout(TIMEOUT_S):
        # The kernel tells nobody that a lock is free, so one has to look.
        while journal.holder(device.local.port_path) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def cpu_time_ns(pid: int) -> int:
    """Return how long a process has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def status(pid: int) -> dict[str, str]:
    """Return what the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
