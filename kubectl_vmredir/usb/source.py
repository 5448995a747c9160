"""The USB devices of this machine, as the service wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from kubectl_vmredir.errors import UsbUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
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
    """

    def __init__(self, server_hosts: Sequence[str] = (), *, claims: Path | None = None) -> None:
        self._server_hosts = server_hosts
        self._claims = claims

    async def __aenter__(self) -> Self:
        """Start to follow what is plugged in.

        Raises:
            UsbUnavailable: If this machine has no USB bus, or libudev is missing.
        """
        raise UsbUnavailable("not yet")

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give back what is claimed."""

    async def devices(self) -> Sequence[LocalDevice]:
        """Return the devices that are plugged in now."""
        return ()

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield whenever :meth:`devices` may have changed, until closed."""
        return
        yield

    async def use(self, device: LocalDevice) -> DeviceUse:
        """Look how this machine uses the device, and what speaks against taking it.

        Raises:
            DeviceNotFound: If it is not plugged in.
        """
        raise NotImplementedError

    async def claim(self, device: LocalDevice) -> UsbHostSockets:
        """Start a usb-host for exactly this device; the caller owns the sockets.

        Raises:
            DeviceNotFound: If it is not plugged in.
            DeviceBusy: If another program has it, or another process of ours.
            DevicePermissionDenied: If this user may not open it.
            UsbUnavailable: If a library is missing.
            UsbError: If it cannot be had for another reason.
        """
        raise NotImplementedError
