"""Who uses a USB device: kernel drivers, and programs through nodes of the device.

Everything blocks: call it in a thread. Names of programs are untrusted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.usb.discovery import ROOT

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from kubectl_vmredir.model import Holder, LocalDevice


def drivers(device: LocalDevice, *, root: Path = ROOT) -> tuple[str, ...]:
    """Return the driver of each interface, in their order; empty text for none.

    ``usbfs`` is a program in user space.

    Raises:
        DeviceNotFound: If it is not plugged in.
    """
    return ()


def find_holders(
    device: LocalDevice, *, own: Collection[int] = (), root: Path = ROOT
) -> tuple[Holder, ...]:
    """Return the programs that use a device, those that have claimed it first.

    A program is found by its open node: of the device itself (``/dev/bus/usb/...``), or of what
    a driver has made of it (hidraw, ttyACM, video, snd, lp, sd ...). Nodes of input devices do
    not count: the desktop reads them all. Where an interface is claimed (driver ``usbfs``) and
    nobody can be seen who did it, there is one holder without a process id.

    Args:
        device: A device of this machine.
        own: Process ids of ours, which are no holders.
        root: Where ``sys``, ``proc`` and ``dev`` are.

    Raises:
        DeviceNotFound: If it is not plugged in.
    """
    return ()
