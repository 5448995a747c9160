"""Looks at how this machine uses its devices, bounded in time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import DeviceNotFound, UsbError
from kubectl_vmredir.model import Danger, DeviceUse, Finding
from kubectl_vmredir.service.interface import DeviceSeen

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class Onlooker:
    """Looks at all devices at once: one that does not answer costs the others no more than time.

    It is not asked again until it is plugged in anew: each look leaves a thread behind, which
    hangs.

    Args:
        source: Where the devices are.
    """

    def __init__(self, source: DeviceSource) -> None:
        self._source = source
        self._silent: dict[LocalDevice, DeviceUse] = {}

    async def look_around(self) -> Sequence[DeviceSeen]:
        """Return the devices that are plugged in now, and how they are used, as far as known.

        Raises:
            UsbError: If they cannot be listed.
        """
        devices = await self._source.devices()
        self._silent = {device: use for device, use in self._silent.items() if device in devices}
        async with asyncio.TaskGroup() as group:
            looks = [
                group.create_task(self._look_at(device), name=f"look-{device.bus_device}")
                for device in devices
            ]
        return [seen for look in looks if (seen := look.result()) is not None]

    async def _look_at(self, device: LocalDevice) -> DeviceSeen | None:
        if device in self._silent:
            return DeviceSeen(device, self._silent[device])
        try:
            return DeviceSeen(device, await look(self._source, device))
        except DeviceNotFound:  # unplugged since
            return None
        except UsbError as error:
            why = Finding(Danger.NOTE, str(error), error.hint or "")
            self._silent[device] = unknown = DeviceUse(findings=(why,), known=False)
            return DeviceSeen(device, unknown)
