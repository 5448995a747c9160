"""Puts back the kernel drivers of a device that was claimed, without being root.

What usbfs offers to who may open the device node, is used: writing to ``drivers_probe`` in sysfs
would need root. Source: ``linux/usbdevice_fs.h`` and ``drivers/usb/core/devio.c`` of Linux 6.1.

All calls go into the kernel and may hang with the device. So they are made in the usb-host process,
or in one that is started for this.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import signal
import struct
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.usb.library import note

if TYPE_CHECKING:
    from kubectl_vmredir.usb.journal import Claim, Entry

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


def rescue(node: int, entry: Entry, *, limit_s: int) -> None:
    """Do :func:`give_back` as a process of its own, which SIGALRM ends when it takes too long."""
    signal.alarm(limit_s)
    give_back(node, entry)
    signal.alarm(0)


def give_back(node: int, entry: Entry) -> None:
    """Put the drivers back that a claim says were there, and clear it; its file is closed.

    An interface that has a driver is left alone: ``usbfs`` is the claim of another program. A
    device that is gone needs nothing. What fails stays in the journal for the next try.

    Args:
        node: Descriptor of the device node, open for writing.
        entry: Of the journal.
    """
    with entry:
        claim = entry.read()
        if claim is None or _put_back(node, claim):
            entry.clear()


def _put_back(node: int, claim: Claim) -> bool:
    """Return whether all is as it was before the claim, as far as it can be."""
    missing = _without_driver(node, claim)
    if not missing:
        return True
    if not any(_has_driver(node, former.interface) for former in claim.interfaces):
        # Nobody has it: as libusbredirhost does, give the drivers a device in a clean state.
        _try(node, USBDEVFS_RESET, 0)
        if claim.configuration not in (0, _configuration(node)):
            # The guest chose another one. Setting it binds the drivers.
            _try(node, USBDEVFS_SETCONFIGURATION, struct.pack("@I", claim.configuration))
            missing = _without_driver(node, claim)
    results = [
        _try(node, USBDEVFS_IOCTL, _IOCTL.pack(interface, USBDEVFS_CONNECT, 0))
        for interface in missing
    ]
    return all(results)


def _without_driver(node: int, claim: Claim) -> list[int]:
    """Return the interfaces that had a driver and have none."""
    return [
        former.interface
        for former in claim.interfaces
        if former.driver and not _has_driver(node, former.interface)
    ]


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
