"""The USB devices of this machine, as the service wants them."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self

from kubectl_vmredir.usb.discovery import ROOT
from kubectl_vmredir.usb.hotplug import Hotplug
from kubectl_vmredir.usb.journal import Journal, read_boot_id
from kubectl_vmredir.usb.leftover import claims_folder
from kubectl_vmredir.usb.process import UsbHosts
from kubectl_vmredir.usb.threads import in_thread
from kubectl_vmredir.usb.use import look

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Sequence
    from pathlib import Path
    from types import TracebackType

    from kubectl_vmredir.model import DeviceUse, LocalDevice
    from kubectl_vmredir.service.ports import UsbHostSockets


class UsbDevices:
    """Offers the devices of this machine as :class:`kubectl_vmredir.service.ports.DeviceSource`.

    An async context manager. Entering it gives back what a former process could not; leaving it
    waits, bounded in time, until the devices that were claimed here are given back.

    Args:
        server_hosts: Host names or addresses that the traffic to the API server goes to: the
            network interface on the way there is not taken without force.
        claims: Folder of the journal; None for the user's.
        root: Where ``sys``, ``proc`` and ``dev`` are.
        hotplug: Says what is plugged in; None for udev.
    """

    def __init__(
        self,
        server_hosts: Sequence[str] = (),
        *,
        claims: Path | None = None,
        root: Path = ROOT,
        hotplug: Hotplug | None = None,
    ) -> None:
        self._server_hosts = server_hosts
        self._root = root
        self._journal = Journal(claims or claims_folder(), boot_id=read_boot_id(root))
        self._hotplug = hotplug or Hotplug()
        self._hosts = UsbHosts(self._journal, root=root)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start to follow what is plugged in.

        Raises:
            UsbUnavailable: If this machine has no USB bus, or libudev is missing.
        """
        async with AsyncExitStack() as stack:
            # First what a former process has left: somebody may wait for it.
            await stack.enter_async_context(self._hosts)
            await stack.enter_async_context(self._hotplug)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Have the devices given back that are claimed here."""
        # The groups need not know what ended the body: they would wrap it.
        await self._stack.__aexit__(None, None, None)

    async def devices(self) -> Sequence[LocalDevice]:
        """Return the devices that are plugged in now."""
        return self._hotplug.devices

    def changes(self) -> AsyncGenerator[None, None]:
        """Yield whenever :meth:`devices` may have changed since this call, until closed."""
        return self._hotplug.changes()

    async def use(self, device: LocalDevice) -> DeviceUse:
        """Look how this machine uses the device, and what speaks against taking it.

        Raises:
            DeviceNotFound: If it is not plugged in.
        """
        looking = partial(self._use, device, self._hosts.releasing())
        return await in_thread(looking, name=f"usb-use-{device.bus_device}")

    async def claim(self, device: LocalDevice) -> UsbHostSockets:
        """Start a usb-host for exactly this device; the caller owns the sockets.

        Raises:
            DeviceNotFound: If it is not plugged in.
            DeviceBusy: If another program has it, or another process of ours.
            DeviceReleasing: If a process of ours still gives it back.
            DevicePermissionDenied: If this user may not open it.
            UsbUnavailable: If a library is missing.
            UsbError: If it cannot be had for another reason.
        """
        return await self._hosts.start(device)

    def _use(self, device: LocalDevice, releasing: Collection[int]) -> DeviceUse:
        holding = self._journal.holding(device.port_path)
        use = look(
            device,
            own_pids={os.getpid(), *([holding.pid] if holding else [])},
            server_hosts=self._server_hosts,
            root=self._root,
        )
        if holding is None or holding.ending or holding.pid in releasing:
            return use  # who wants the device waits a moment for it
        return replace(use, redirected_by=holding.pid)
