"""A look at how this machine uses a device, bounded in time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import UsbError
from kubectl_vmredir.model import Danger, DeviceUse, Finding

if TYPE_CHECKING:
    from kubectl_vmredir.model import LocalDevice
    from kubectl_vmredir.service.ports import DeviceSource

LOOK_TIMEOUT_S: Final = 10.0
"""How long a look at the use of a device may take."""


async def look(source: DeviceSource, device: LocalDevice) -> DeviceUse:
    """Return how this machine uses a device; see ``DeviceSource.use``.

    Raises:
        DeviceNotFound: If it is not plugged in.
        UsbError: If it cannot be seen.
    """
    try:
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            return await source.use(device)
    except TimeoutError as exc:
        raise UsbError(
            f"how device {device} is used here was not found out in {LOOK_TIMEOUT_S:.0f} s",
            hint="The device, or a name server, does not answer. See: sudo dmesg | grep -i usb",
        ) from exc


def unknown_use(error: UsbError) -> DeviceUse:
    """Return what is known of the use of a device that could not be seen: why not."""
    return DeviceUse(findings=(Finding(Danger.NOTE, str(error), error.hint or ""),))
