"""Tells of the local devices and their use, now and whenever that changes."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from kubectl_vmredir.errors import UsbError
from kubectl_vmredir.service.interface import DevicesSeen, Trouble
from kubectl_vmredir.service.looking import Onlooker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from kubectl_vmredir.service.ports import DeviceSource


async def news_of_devices(
    source: DeviceSource, changes: AsyncGenerator[None, None]
) -> AsyncGenerator[DevicesSeen, None]:
    """Yield the devices and their use, and again whenever there is something new.

    Args:
        source: Where the devices are.
        changes: Yields when they, or their use, may have changed; closed at the end.
    """
    onlooker = Onlooker(source)
    async with aclosing(changes):
        told = await _seen(onlooker)
        yield told
        async for _ in changes:
            seen = await _seen(onlooker)
            if seen != told:
                told = seen
                yield told


async def _seen(onlooker: Onlooker) -> DevicesSeen:
    try:
        return DevicesSeen(tuple(await onlooker.look_around()))
    except UsbError as error:
        return DevicesSeen((), Trouble.of(error))
