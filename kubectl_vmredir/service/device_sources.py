"""Several sources of devices as one: those of this machine beside virtual ones."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from kubectl_vmredir.errors import DeviceNotFound, UsbUnavailable
from kubectl_vmredir.model import DeviceSelector
from kubectl_vmredir.service.changes import Changes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from types import TracebackType

    from kubectl_vmredir.model import DeviceUse, LocalDevice
    from kubectl_vmredir.service.ports import DeviceSource, UsbHostSockets

logger = logging.getLogger(__name__)


class NoDevices:
    """Stands where a source cannot be used on this machine: says why, whenever it is asked.

    Args:
        cause: Why it cannot be used.
    """

    def __init__(self, cause: UsbUnavailable) -> None:
        self._cause = cause

    async def devices(self) -> Sequence[LocalDevice]:
        """Say why there are none.

        Raises:
            UsbUnavailable: Always.
        """
        raise self._cause

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield nothing: it stays as it is."""
        return
        yield

    async def use(self, device: LocalDevice) -> DeviceUse:
        """Say why it cannot be looked at.

        Raises:
            UsbUnavailable: Always.
        """
        raise self._cause

    async def claim(self, device: LocalDevice) -> UsbHostSockets:
        """Say why it cannot be had.

        Raises:
            UsbUnavailable: Always.
        """
        raise self._cause


class AllDevices:
    """Offers the devices of all sources as one :class:`DeviceSource` (`ports.py`).

    An async context manager: it follows the changes of its sources until it is left. The
    sources belong to the caller.

    Args:
        sources: At least one; their devices are listed in this order.
    """

    def __init__(self, sources: Sequence[DeviceSource]) -> None:
        assert sources, "no source of devices"
        self._sources = sources
        self._owners: dict[LocalDevice, DeviceSource] = {}
        """Whose device it is, of all that were listed last."""
        self._changes = Changes()
        self._stack = AsyncExitStack()
        self._followers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._followers = [
            # The call is made here, so that no change from now on is missed.
            group.create_task(self._follow_source(source.changes()), name="device-changes")
            for source in self._sources
        ]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for follower in self._followers:
            follower.cancel()
        # The group need not know what ended the body: it would wrap it.
        await self._stack.__aexit__(None, None, None)

    async def devices(self) -> Sequence[LocalDevice]:
        """Return the devices of all sources that can be used here.

        Raises:
            UsbUnavailable: If none can.
        """
        owners: dict[LocalDevice, DeviceSource] = {}
        unavailable: list[UsbUnavailable] = []
        for source in self._sources:
            try:
                owners |= dict.fromkeys(await source.devices(), source)
            except UsbUnavailable as error:
                unavailable.append(error)
        if len(unavailable) == len(self._sources):
            raise unavailable[0]
        self._owners = owners
        return tuple(owners)

    def changes(self) -> AsyncGenerator[None, None]:
        """Yield whenever :meth:`devices` may have changed since this call, until closed."""
        return self._changes.follow()

    async def use(self, device: LocalDevice) -> DeviceUse:
        """Ask the source of the device how this machine uses it.

        Raises:
            DeviceNotFound: If it is not plugged in.
        """
        return await (await self._owner(device)).use(device)

    async def claim(self, device: LocalDevice) -> UsbHostSockets:
        """Let the source of the device start a usb-host for it.

        Raises:
            DeviceNotFound: If it is not plugged in.
            UsbError: As the source says.
        """
        return await (await self._owner(device)).claim(device)

    async def _owner(self, device: LocalDevice) -> DeviceSource:
        if device not in self._owners:
            await self.devices()
        if owner := self._owners.get(device):
            return owner
        raise DeviceNotFound(DeviceSelector.of(device))

    async def _follow_source(self, changes: AsyncIterator[None]) -> None:
        try:
            async for _ in changes:
                self._changes.announce()
        except UsbUnavailable as error:
            logger.warning("what is plugged in or unplugged is not seen any more: %s", error)
