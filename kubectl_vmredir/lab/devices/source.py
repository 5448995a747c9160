"""Virtual devices as a source of USB devices: they live in this process."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from kubectl_vmredir.errors import DeviceBusy, DeviceNotFound
from kubectl_vmredir.lab.devices.session import Session
from kubectl_vmredir.model import DeviceSelector, DeviceUse, LocalDevice
from kubectl_vmredir.service.changes import Changes
from kubectl_vmredir.service.ports import UsbHostSockets

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence
    from types import TracebackType

    from kubectl_vmredir.lab.devices.function import Function

BUS: Final = 100
"""Bus of all virtual devices: kernels count from 1, and rarely get there."""


@dataclass(slots=True)
class _Plugged:
    """A device that is plugged in.

    Attributes:
        function: The device.
        local: What the service sees of it.
        session: Who serves it while it is claimed.
        serving: Runs the session.
    """

    function: Function
    local: LocalDevice
    session: Session | None = None
    serving: asyncio.Task[None] | None = None


class VirtualDevices:
    """Offers virtual devices as :class:`kubectl_vmredir.service.ports.DeviceSource`.

    An async context manager: leaving it ends all sessions.

    Args:
        functions: Devices that are plugged in from the start.
        latency_s: How long each transfer is on its way to a device, in seconds.
    """

    def __init__(self, functions: Iterable[Function] = (), *, latency_s: float = 0.0) -> None:
        self._latency_s = latency_s
        self._addresses = itertools.count(1)
        self._plugged: list[_Plugged] = []
        self._changes = Changes()
        self._stack = AsyncExitStack()
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        for function in functions:
            self.plug(function)

    async def __aenter__(self) -> Self:
        self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        # The group need not know what ended the body: it would wrap it.
        await self._stack.__aexit__(None, None, None)

    async def devices(self) -> Sequence[LocalDevice]:
        """Return the devices that are plugged in now."""
        return [plugged.local for plugged in self._plugged]

    def changes(self) -> AsyncGenerator[None, None]:
        """Yield whenever :meth:`devices` may have changed since this call, until closed."""
        return self._changes.follow()

    async def use(self, device: LocalDevice) -> DeviceUse:
        """Return who has it: nothing else of this machine uses a virtual device.

        Raises:
            DeviceNotFound: If it is not plugged in.
        """
        claimed = self._find(device).session is not None
        return DeviceUse(redirected_by=os.getpid() if claimed else None)

    async def claim(self, device: LocalDevice) -> UsbHostSockets:
        """Start a usb-host for this device; the caller owns the sockets.

        Raises:
            DeviceNotFound: If it is not plugged in.
            DeviceBusy: If it is claimed already, here or by another process.
            UsbError: If its image cannot be used.
        """
        assert self._group is not None, "claim() outside of the context"
        plugged = self._find(device)
        if plugged.session is not None:
            raise DeviceBusy(device, f"this process ({os.getpid()})")
        if holder := plugged.function.acquire():
            raise DeviceBusy(device, holder)
        (data, our_data), (control, our_control) = socket.socketpair(), socket.socketpair()
        for end in (data, our_data, control, our_control):
            end.setblocking(False)
        plugged.session = Session(
            plugged.function, our_data, our_control, latency_s=self._latency_s
        )
        task = self._group.create_task(plugged.session.run(), name=f"usb-host-{device.bus_device}")
        self._tasks.add(task)
        plugged.serving = task
        # A callback, because a task that is cancelled before it runs has no `finally`.
        task.add_done_callback(partial(self._end, plugged, plugged.session))
        return UsbHostSockets(data, control)

    def plug(self, function: Function) -> LocalDevice:
        """Plug a device in, at the first free port; return what it is known as."""
        taken = {plugged.local.port_path for plugged in self._plugged}
        ports = (f"{BUS}-{number}" for number in itertools.count(1))
        description = function.description
        local = LocalDevice(
            ids=description.ids,
            bus=BUS,
            address=next(self._addresses),
            port_path=next(port for port in ports if port not in taken),
            serial=description.serial,
            manufacturer=description.manufacturer,
            product=description.product,
            speed=description.speed,
            classes=tuple(
                interface.usb_class for interface in description.configuration.interfaces
            ),
            virtual=True,
        )
        self._plugged.append(_Plugged(function, local))
        self._changes.announce()
        return local

    def unplug(self, device: LocalDevice) -> None:
        """Pull a device out; who has claimed it is told.

        Raises:
            DeviceNotFound: If it is not plugged in.
        """
        plugged = self._find(device)
        self._plugged.remove(plugged)
        if plugged.session is not None:
            plugged.session.unplug("unplugged")
        self._changes.announce()

    def kill_host(self, device: LocalDevice) -> bool:
        """End the usb-host of a device as SIGKILL does: in the middle of whatever it does.

        Returns:
            Whether there was one.

        Raises:
            DeviceNotFound: If the device is not plugged in.
        """
        serving = self._find(device).serving
        return serving is not None and serving.cancel()

    def _end(self, plugged: _Plugged, session: Session, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        plugged.session = plugged.serving = None
        session.close()

    def _find(self, device: LocalDevice) -> _Plugged:
        for plugged in self._plugged:
            if plugged.local == device:
                return plugged
        raise DeviceNotFound(DeviceSelector.of(device))
