"""Which USB devices this machine has: what the kernel and udev know, and pyusb where they do not.

Everything blocks: call it in a thread. Texts come from the devices: untrusted, and cut at
:data:`~kubectl_vmredir.usb.descriptors.MAX_TEXT`.
"""

from __future__ import annotations

import functools
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyudev

from kubectl_vmredir.errors import DeviceNotFound, UsbUnavailable
from kubectl_vmredir.model import DeviceSelector, LocalDevice, Speed, VendorProduct
from kubectl_vmredir.usb import kinds, strings
from kubectl_vmredir.usb.descriptors import MAX_TEXT, application_usages, parse_descriptors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from kubectl_vmredir.usb.descriptors import Description

ROOT: Final = Path("/")
"""Where ``sys``, ``proc`` and ``dev`` are; a test has a small tree of its own."""

_DEVICES: Final = "sys/bus/usb/devices"
_PORT_PATH: Final = re.compile(r"\d+-\d+(?:\.\d+)*")
_MAX_DESCRIPTORS: Final = 1 << 17
"""Bytes that are read of a ``descriptors`` file: two configurations of the greatest length."""
_MOST_REMEMBERED: Final = 256

_SPEEDS: Final = {
    "1.5": Speed.LOW,
    "12": Speed.FULL,
    "480": Speed.HIGH,
    "5000": Speed.SUPER,
    "10000": Speed.SUPER,
    "20000": Speed.SUPER,
}
"""Documentation/ABI/stable/sysfs-bus-usb: Mbit/s."""

_lock = threading.Lock()
"""libudev's objects are for one thread at a time."""


def list_devices() -> list[LocalDevice]:
    """Return the devices that are plugged in now, by port; hubs are none.

    May be called in any thread. A device that goes away while it is looked at is left out.

    Raises:
        UsbUnavailable: If this machine has no USB bus, or libudev is missing.
    """
    require_bus()
    with _lock:
        found = [
            read_device(
                Path(udev.sys_path), node=udev.device_node, properties=_set_properties(udev)
            )
            for udev in _context().list_devices(subsystem="usb", DEVTYPE="usb_device")
            if _PORT_PATH.fullmatch(udev.sys_name)
        ]
    return sorted(
        (device for device in found if device is not None),
        key=lambda device: [int(number) for number in re.split("[-.]", device.port_path)],
    )


def require_bus(root: Path = ROOT) -> None:
    """Do nothing if this machine has a USB bus.

    Raises:
        UsbUnavailable: If it has none.
    """
    if not (root / _DEVICES).exists():
        raise UsbUnavailable(
            "this machine has no USB bus",
            hint=(
                "In a container, give it /sys and /dev/bus/usb of the machine. Otherwise load the "
                "kernel's USB:\n  sudo modprobe usbcore"
            ),
        )


def open_udev() -> pyudev.Context:
    """Return a connection to libudev, for one thread at a time.

    Raises:
        UsbUnavailable: If libudev is missing.
    """
    try:
        return pyudev.Context()
    except ImportError as exc:
        raise UsbUnavailable(
            "libudev is missing", hint="Install it, on Debian with:\n  sudo apt install libudev1"
        ) from exc


def sysfs_path(device: LocalDevice, *, root: Path = ROOT) -> Path:
    """Return the folder of a device in sysfs, without symbolic links.

    Raises:
        DeviceNotFound: If it is not plugged in, or another device is in that port now.
    """
    folder = (root / _DEVICES / device.port_path).resolve()
    try:
        there = (_number(folder / "busnum"), _number(folder / "devnum"))
    except (OSError, ValueError):
        there = (0, 0)
    if device.virtual or there != (device.bus, device.address):
        raise DeviceNotFound(DeviceSelector.of(device))
    return folder


def read_device(
    folder: Path, *, node: str | None, properties: Collection[str] = ()
) -> LocalDevice | None:
    """Return the device of a folder in sysfs; None for a hub, or if it has just gone.

    Args:
        folder: Of the device, not of an interface.
        node: Its device node.
        properties: Names of the properties of udev that are set to 1.
    """
    try:
        description = parse_descriptors(_read(folder / "descriptors"))
        if _is_hub(description):
            return None
        ids = VendorProduct(_number(folder / "idVendor", 16), _number(folder / "idProduct", 16))
        bus, address = _number(folder / "busnum"), _number(folder / "devnum")
        manufacturer, product, serial = _texts(folder, description, node, bus, address)
        return LocalDevice(
            ids=ids,
            bus=bus,
            address=address,
            port_path=folder.name,
            serial=serial or None,
            manufacturer=manufacturer,
            product=product,
            speed=_SPEEDS.get(_text(folder / "speed"), Speed.UNKNOWN),
            classes=description.classes,
            node=node,
            word=kinds.word(ids, description.classes, _clues(folder, properties)),
        )
    except (OSError, ValueError):  # its files go, or are empty, while it is unplugged
        return None


def below(folder: Path) -> Iterator[Path]:
    """Yield the folder of a device in sysfs, its interfaces, and what drivers made of them."""
    for path, folders, _ in os.walk(folder):
        folders.sort()
        yield Path(path)


@functools.cache
def _context() -> pyudev.Context:
    return open_udev()


def _set_properties(udev: pyudev.Device) -> frozenset[str]:
    return frozenset(name for name, value in udev.properties.items() if value == "1")


def _is_hub(description: Description) -> bool:
    return kinds.HUB in (
        description.device_class,
        *(usb_class.base for usb_class in description.classes),
    )


def _texts(
    folder: Path, description: Description, node: str | None, bus: int, address: int
) -> tuple[str, str, str]:
    """Return manufacturer, product and serial number; empty if the device has none."""
    indices = {
        "manufacturer": description.manufacturer,
        "product": description.product,
        "serial": description.serial,
    }
    texts = {name: _text(folder / name) for name in indices if (folder / name).exists()}
    missing = {name: index for name, index in indices.items() if index and name not in texts}
    if missing and node is not None:
        asked = _asked(node, bus, address, tuple(missing.values()), plugged=folder.stat().st_ino)
        texts |= {name: asked.get(index, "") for name, index in missing.items()}
    manufacturer, product, serial = (texts.get(name, "") for name in indices)
    return manufacturer, product, serial


@functools.lru_cache(_MOST_REMEMBERED)
def _asked(
    node: str, bus: int, address: int, indices: tuple[int, ...], *, plugged: int
) -> dict[int, str]:
    """Ask a device for texts, once for each time it is plugged in.

    A device is the same until it is unplugged, so what could not be had at first is never had.

    Args:
        node: Its device node.
        bus: Bus number.
        address: Device address.
        indices: Of the string descriptors.
        plugged: Inode number of its folder in sysfs, which no two plugs share.
    """
    return strings.ask(node, bus, address, indices)


def _clues(folder: Path, properties: Collection[str]) -> kinds.Clues:
    usages: list[tuple[int, int]] = []
    subsystems: set[str] = set()
    interfaces: set[str] = set()
    for path in below(folder):
        if (link := path / "subsystem").is_symlink():
            subsystems.add(os.path.basename(os.readlink(link)))
        if (report := path / "report_descriptor").is_file():
            usages += application_usages(_read(report))
        if (name := path / "interface").is_file():
            interfaces.add(_text(name))
    return kinds.Clues(
        tuple(usages), frozenset(subsystems), frozenset(properties), frozenset(interfaces)
    )


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_DESCRIPTORS)


def _number(path: Path, base: int = 10) -> int:
    return int(_read(path), base)


def _text(path: Path) -> str:
    """Return an attribute as text, without the one newline that sysfs puts behind it."""
    return _read(path).decode("utf-8", errors="replace").removesuffix("\n")[:MAX_TEXT]
