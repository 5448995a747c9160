"""Tells of the local devices and their use, now and whenever that changes."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from kubectl_vmredir.errors import DeviceNotFound, UsbError
from kubectl_vmredir.service.interface import DeviceSeen, DevicesSeen, Trouble
from kubectl_vmredir.service.looking import look, unknown_use

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from kubectl_vmredir.model import DeviceUse, LocalDevice
    from kubectl_vmredir.service.ports import DeviceSource


async def news_of_devices(
    source: DeviceSource, changes: AsyncGenerator[None, None]
) -> AsyncGenerator[DevicesSeen, None]:
    """Yield the devices and their use, and again when that is another one after a change.

    Args:
        source: Where the devices are.
        changes: Yields when they, or their use, may have changed; closed at the end.
    """
    onlooker = Onlooker(source)
    async with aclosing(changes):
        told = await onlooker.look_round()
        yield told
        async for _ in changes:
            seen = await onlooker.look_round()
            if seen != told:
                told = seen
                yield told


class Onlooker:
    """Looks at all devices at once, so that one which does not answer costs its own time only.

    A device that has not answered is not asked again until it is plugged in anew: each look leaves
    a thread behind, which hangs.

    Args:
        source: Where the devices are.
    """

    def __init__(self, source: DeviceSource) -> None:
        self._source = source
        self._silent: dict[LocalDevice, DeviceUse] = {}

    async def look_round(self) -> DevicesSeen:
        """Return the devices that are plugged in now, and how they are used."""
        try:
            devices = await self._source.devices()
        except UsbError as error:
            return DevicesSeen((), Trouble.of(error))
        self._silent = {device: use for device, use in self._silent.items() if device in devices}
        async with asyncio.TaskGroup() as group:
            looks = [
                group.create_task(self._look_at(device), name=f"look-{device.bus_device}")
                for device in devices
            ]
        return DevicesSeen(tuple(seen for look in looks if (seen := look.result()) is not None))

    async def _look_at(self, device: LocalDevice) -> DeviceSeen | None:
        if device in self._silent:
            return DeviceSeen(device, self._silent[device])
        try:
            return DeviceSeen(device, await look(self._source, device))
        except DeviceNotFound:  # unplugged since
            return None
        except UsbError as error:
            self._silent[device] = unknown_use(error)
            return DeviceSeen(device, self._silent[device])
