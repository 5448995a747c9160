"""A machine with USB devices: a small sysfs and /proc below a folder of the test."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kubectl_vmredir.model import UsbClass

MASS_STORAGE = UsbClass(8, 6, 80)
SMARTCARD = UsbClass(11, 0, 0)
HID = UsbClass(3, 0, 0)
KEYBOARD = UsbClass(3, 1, 1)

_NOBODY = 65534


def device_descriptor(ids: str = "1234:5678", *, base: int = 0, strings: bytes = b"") -> bytes:
    """Return the 18 bytes of a USB 2.0 device; strings are its three indices."""
    vendor, product = (bytes.fromhex(part)[::-1] for part in ids.split(":"))
    return (
        bytes.fromhex("1201 0002") + bytes([base, 0, 0, 64]) + vendor + product
        + bytes.fromhex("0001") + strings.ljust(3, b"\0") + b"\x01"
    )  # fmt: skip


def interface_descriptor(number: int, usb_class: UsbClass, *, alternate: int = 0) -> bytes:
    triple = (usb_class.base, usb_class.sub, usb_class.protocol)
    return bytes([9, 4, number, alternate, 0, *triple, 0])


def configuration(*descriptors: bytes) -> bytes:
    """Return a configuration descriptor with all that belongs to it."""
    body = b"".join(descriptors)
    total = (9 + len(body)).to_bytes(2, "little")
    return bytes([9, 2]) + total + bytes([1, 1, 0, 0x80, 50]) + body


class UsbMachine:
    """Plugs devices in, binds drivers, runs programs that hold nodes.

    Args:
        root: An empty folder; ``sys`` and ``proc`` are made in it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sys/bus/usb/devices").mkdir(parents=True)
        (root / "proc").mkdir()

    def plug(
        self,
        port: str = "1-4",
        *,
        ids: str = "1234:5678",
        address: int = 4,
        classes: Sequence[UsbClass] = (MASS_STORAGE,),
        drivers: Sequence[str] = (),
        strings: bytes = b"\0\0\0",
        **texts: bytes,
    ) -> Path:
        """Return the folder of a new device.

        Args:
            port: Where it is; the bus is the first number.
            ids: Vendor and product id.
            address: On the bus.
            classes: Of its interfaces.
            drivers: Of its interfaces; empty text for none.
            strings: Indices of manufacturer, product and serial number.
            texts: Contents of ``manufacturer``, ``product``, ``serial``, as sysfs shows them.
        """
        bus = int(port.split("-")[0])
        folder = self.root / f"sys/devices/pci0/usb{bus}/{port}"
        folder.mkdir(parents=True)
        (self.root / "sys/bus/usb/devices" / port).symlink_to(folder)
        interfaces = [interface_descriptor(*each) for each in enumerate(classes)]
        files = {
            "descriptors": device_descriptor(ids, strings=strings) + configuration(*interfaces),
            "idVendor": ids[:4].encode() + b"\n",
            "idProduct": ids[5:].encode() + b"\n",
            "busnum": b"%d\n" % bus,
            "devnum": b"%d\n" % address,
            "speed": b"480\n",
            "dev": b"189:%d\n" % address,
            "uevent": b"MAJOR=189\nDEVNAME=bus/usb/%03d/%03d\nDEVTYPE=usb_device\n"
            % (bus, address),
            **texts,
        }
        for name, content in files.items():
            (folder / name).write_bytes(content)
        for number, driver in enumerate(drivers):
            interface = folder / f"{port}:1.{number}"
            interface.mkdir()
            if driver:
                (interface / "driver").symlink_to(f"../../../bus/usb/drivers/{driver}")
        return folder

    def make(self, folder: Path, subsystem: str, node: str = "", uevent: str = "") -> Path:
        """Make a folder of what a driver has made of a device; return it."""
        folder.mkdir(parents=True)
        (folder / "subsystem").symlink_to(f"../../../class/{subsystem}")
        if node:
            (folder / "dev").write_text("244:0\n")
            uevent = f"MAJOR=244\nDEVNAME={node}\n{uevent}"
        (folder / "uevent").write_text(uevent)
        return folder

    def run(self, pid: int, program: str, *nodes: str, visible: bool = True) -> None:
        """Start a program that has some nodes open."""
        descriptors = self.root / f"proc/{pid}/fd"
        descriptors.mkdir(parents=True)
        (descriptors.parent / "comm").write_text(f"{program}\n")
        for number, node in enumerate(("/dev/null", *nodes)):
            (descriptors / str(number)).symlink_to(node)
        if not visible:
            descriptors.chmod(0)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Have no rights over what belongs to others, also if the tests run as root."""
    if (uid := os.geteuid()) != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(uid)
