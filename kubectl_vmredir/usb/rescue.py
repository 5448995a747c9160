"""Puts back the kernel drivers of a device that was claimed, without being root.

What usbfs offers to who may open the device node, is used: writing to ``drivers_probe`` in sysfs
would need root. Source: ``linux/usbdevice_fs.h`` and ``drivers/usb/core/devio.c`` of Linux 6.1.

All calls go into the kernel and may hang with the device. So they are made in the usb-host process,
or in one that is started for this: somebody waits for that, so little is imported here.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import struct
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.usb.noting import note

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTROL_TIMEOUT_MS: Final = 1000

_CONTROL: Final = struct.Struct("@BBHHHIP")  # usbdevfs_ctrltransfer
_GET_DRIVER: Final = struct.Struct("@I256x")  # usbdevfs_getdriver
_IOCTL: Final = struct.Struct("@iiP")  # usbdevfs_ioctl

_READ: Final = 2
_WRITE: Final = 1


def _request(direction: int, number: int, size: int) -> int:
    """Return _IOC(direction, 'U', number, size) of asm-generic/ioctl.h."""
    return direction << 30 | size << 16 | ord("U") << 8 | number


USBDEVFS_CONTROL: Final = _request(_READ | _WRITE, 0, _CONTROL.size)
USBDEVFS_SETCONFIGURATION: Final = _request(_READ, 5, 4)
USBDEVFS_GETDRIVER: Final = _request(_WRITE, 8, _GET_DRIVER.size)
USBDEVFS_IOCTL: Final = _request(_READ | _WRITE, 18, _IOCTL.size)
USBDEVFS_RESET: Final = _request(0, 20, 0)
USBDEVFS_CONNECT: Final = _request(0, 23, 0)

_GET_CONFIGURATION: Final = 8  # standard request, USB 2.0 section 9.4.2
_DEVICE_TO_HOST: Final = 0x80


def put_back(node: int, interfaces: Sequence[int], configuration: int) -> bool:
    """Put the drivers back that interfaces had before a claim; return whether all is well.

    An interface that has a driver is left alone: ``usbfs`` is the claim of another program. A
    device that is gone needs nothing.

    Args:
        node: Descriptor of the device node, open for writing.
        interfaces: Those that had a driver.
        configuration: Which one was active; 0 if there was none.
    """
    missing = _without_driver(node, interfaces)
    if not missing:
        return True
    if len(missing) == len(interfaces):
        # Nobody has it: as libusbredirhost does, give the drivers a device in a clean state.
        _try(node, USBDEVFS_RESET, 0)
        if configuration not in (0, _configuration(node)):
            # The guest chose another one. Setting it binds the drivers.
            _try(node, USBDEVFS_SETCONFIGURATION, struct.pack("@I", configuration))
            missing = _without_driver(node, interfaces)
    results = [
        _try(node, USBDEVFS_IOCTL, _IOCTL.pack(interface, USBDEVFS_CONNECT, 0))
        for interface in missing
    ]
    return all(results)


def _without_driver(node: int, interfaces: Sequence[int]) -> list[int]:
    return [interface for interface in interfaces if not _has_driver(node, interface)]


def _has_driver(node: int, interface: int) -> bool:
    try:
        fcntl.ioctl(node, USBDEVFS_GETDRIVER, bytearray(_GET_DRIVER.pack(interface)))
    except OSError as exc:
        # ENODATA is what it says then; a device that is gone (ENODEV) misses nothing.
        return exc.errno != errno.ENODATA
    return True


def _configuration(node: int) -> int:
    """Return the active configuration; 0 if there is none or it does not say."""
    answer = ctypes.create_string_buffer(1)
    request = _CONTROL.pack(
        _DEVICE_TO_HOST, _GET_CONFIGURATION, 0, 0, 1, CONTROL_TIMEOUT_MS, ctypes.addressof(answer)
    )
    _try(node, USBDEVFS_CONTROL, request)
    return answer.raw[0]


def _try(node: int, request: int, argument: bytes | int) -> bool:
    """Return whether it worked, or need not work because the device is gone or has a driver."""
    try:
        fcntl.ioctl(node, request, argument)
    except OSError as exc:
        note(f"usbfs request {request:#x}: {exc.strerror}")
        return exc.errno in (errno.ENODEV, errno.EBUSY)
    return True
