"""The owner of device sessions, keyed by device: only here are devices given back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

from kubectl_vmredir.continuity.machine import ContinuityMachine
from kubectl_vmredir.errors import DeviceBusy, UsbError
from kubectl_vmredir.service.bulkhead import Finisher
from kubectl_vmredir.service.looking import look
from kubectl_vmredir.service.session import DeviceSession
from kubectl_vmredir.service.usbhost import CLAIM_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from kubectl_vmredir.model import DeviceUse, LocalDevice, RedirectionId
    from kubectl_vmredir.service.gate import Gate
    from kubectl_vmredir.service.ports import DeviceSource


class DeviceSessions:
    """Owns all sessions. Leaving the context ends them, whatever the gate says.

    So whoever leaves it has asked the gate, or the user.

    Args:
        devices: Where the devices are.
        gate: Asked before anything is done to a VM.
        new_machine: Makes the continuity of a session.
        changed: Called when a device was claimed or given back.
    """

    def __init__(
        self,
        devices: DeviceSource,
        gate: Gate,
        *,
        new_machine: Callable[[], ContinuityMachine] = ContinuityMachine,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._devices = devices
        self._gate = gate
        self._new_machine = new_machine
        self._changed = changed
        self._sessions: dict[LocalDevice, DeviceSession] = {}
        self._stack = AsyncExitStack()
        self._finisher: Finisher

    async def __aenter__(self) -> Self:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._finisher = Finisher(group)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._finisher.cancel()
        try:
            # The group need not know what ended the body: it would wrap it.
            await self._stack.__aexit__(None, None, None)
        finally:
            for session in self._sessions.values():
                if session.endpoint is not None:
                    await session.endpoint.close("the program ends")
                await session.usb_host.close()

    async def use(self, device: LocalDevice) -> DeviceUse:
        """Return how this machine uses a device; see :func:`kubectl_vmredir.service.looking.look`.

        Raises:
            DeviceNotFound: If it is not plugged in.
            UsbError: If it cannot be seen.
        """
        return await look(self._devices, device)

    async def find(self, device: LocalDevice, holder: RedirectionId) -> DeviceSession | None:
        """Return a redirection's session of a device, once it is neither claimed nor released."""
        await self._finisher.join(f"claim-{device.bus_device}")
        await self._finisher.join(f"release-{device.bus_device}")
        session = self._sessions.get(device)
        return session if session is not None and session.holder == holder else None

    async def claim(self, device: LocalDevice, holder: RedirectionId) -> DeviceSession:
        """Return the session of a device: the one that is held, or a new one.

        Args:
            device: The device.
            holder: The redirection that wants it.

        Raises:
            DeviceBusy: If another redirection has it.
            UsbError: If the device cannot be had.
        """
        if device not in self._sessions:
            await self._finisher.finish(
                f"claim-{device.bus_device}", lambda: self._claim(device, holder)
            )
        session = self._sessions[device]
        if session.holder != holder:
            raise DeviceBusy(device, f"redirection {session.holder}")
        return session

    async def close(self, session: DeviceSession) -> None:
        """Give the device back; its link is closed already."""
        assert session.endpoint is None, "closed with a link open"
        await self._finisher.finish(
            f"release-{session.device.bus_device}", lambda: self._release(session)
        )

    async def _claim(self, device: LocalDevice, holder: RedirectionId) -> None:
        try:
            async with asyncio.timeout(CLAIM_TIMEOUT_S):
                sockets = await self._devices.claim(device)
        except TimeoutError as exc:
            raise UsbError(f"device {device} was not claimed in {CLAIM_TIMEOUT_S:.0f} s") from exc
        session = DeviceSession(device, holder, self._gate, self._new_machine(), self._finisher)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(session.usb_host.close)
            await session.usb_host.open(sockets)
            self._sessions[device] = session
            undo.pop_all()
        self._changed()

    async def _release(self, session: DeviceSession) -> None:
        await session.usb_host.close()
        self._sessions.pop(session.device, None)
        self._changed()
