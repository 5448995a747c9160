"""A machine of files: sysfs, /proc and /dev, as much as the safety of USB devices looks at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from kubectl_vmredir.model import LocalDevice, Speed, UsbClass, VendorProduct
from kubectl_vmredir.usb.tree import Tree

CONTROLLER: Final = "sys/devices/pci0000:00/0000:00:14.0"
INTERNAL: Final = "sys/devices/pci0000:00/0000:00:17.0"
"""Where what is no USB device is plugged in."""
VIRTUAL: Final = "sys/devices/virtual"

ROOT_ON_INTERNAL: Final = (
    "22 28 0:21 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw\n"
    "28 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro\n"
)
KEYBOARD_KEYS: Final = "1000000000007 ff9f207ac14057ff febeffdfffefffff fffffffffffffffe"
"""``capabilities/key`` of a USB keyboard; copied from a real one."""
MOUSE_KEYS: Final = "1f0000 0 0 0 0"
TOUCHPAD_KEYS: Final = "e520 10000 0 0 0 0"
TOUCHSCREEN_KEYS: Final = "400 0 0 0 0 0"
POWER_KEYS: Final = "10000000000000 0"


class MachineTree:
    """Builds the tree; a machine at first that has one internal disk, sda, with its root on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = Tree(root)
        self.write("proc/self/mountinfo", ROOT_ON_INTERNAL)
        self.write("proc/swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
        self.block("sda", "8:0", f"{INTERNAL}/ata1/host0/target0:0:0/0:0:0:0/block")
        self.block("sda2", "8:2", f"{INTERNAL}/ata1/host0/target0:0:0/0:0:0:0/block/sda")

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def link(self, path: str, target: str) -> None:
        """Make a relative link, as sysfs does."""
        at = self.root / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.symlink_to(os.path.relpath(self.root / target, at.parent))

    def usb(self, port: str = "1-4") -> str:
        """Plug a USB device in; return its folder."""
        folder = f"{CONTROLLER}/usb1/{port}"
        self.write(f"{folder}/busnum", "1\n")
        self.write(f"{folder}/devnum", "4\n")
        self.write(f"{folder}/idVendor", "1234\n")
        self.write(f"{folder}/idProduct", "5678\n")
        self.write("dev/bus/usb/001/004", "")
        self.link(f"sys/bus/usb/devices/{port}", folder)
        return folder

    def real(self, folder: str) -> Path:
        """Return the path of a folder as the safety looks for it."""
        return self.tree.real(folder)

    def block(self, name: str, number: str, below: str) -> str:
        """Add a disk or a partition below a folder; return its own."""
        self.write(f"{below}/{name}/dev", f"{number}\n")
        self.link(f"sys/class/block/{name}", f"{below}/{name}")
        self.write(f"dev/{name}", "")
        return f"{below}/{name}"

    def stick(self, port: str = "1-4") -> str:
        """Plug in a stick, sdb, with two partitions; return its folder."""
        folder = self.usb(port)
        disk = self.block("sdb", "8:16", f"{folder}/{port}:1.0/host1/target1:0:0/1:0:0:0/block")
        self.block("sdb1", "8:17", disk)
        self.block("sdb2", "8:18", disk)
        return folder

    def stack(self, name: str, number: str, *on: str, uuid: str = "", mapper: str = "") -> None:
        """Make a block device of others, by device mapper or (without a uuid) md."""
        folder = self.block(name, number, f"{VIRTUAL}/block")
        if uuid:
            self.write(f"{folder}/dm/uuid", f"{uuid}\n")
            self.write(f"{folder}/dm/name", f"{mapper}\n")
            self.link(f"dev/mapper/{mapper}", f"dev/{name}")
        else:
            self.write(f"{folder}/md/level", "raid1\n")
        for lower in on:
            self.link(f"sys/class/block/{lower}/holders/{name}", folder)

    def loop(self, name: str, number: str, file: str) -> None:
        """Make a loop device of a file."""
        folder = self.block(name, number, f"{VIRTUAL}/block")
        self.write(f"{folder}/loop/backing_file", f"{file}\n")

    def mount(self, line: str, *, of: str = "self") -> None:
        """Add a line to the mountinfo of a process."""
        path = f"proc/{of}/mountinfo"
        before = (self.root / path).read_text() if self.tree.exists(path) else ""
        self.write(path, f"{before}{line}\n")

    def swap(self, line: str) -> None:
        """Add an active swap area."""
        self.write("proc/swaps", f"{self.tree.text('proc/swaps')}{line}\n")

    def net(self, name: str, below: str) -> None:
        """Add a network interface below a folder."""
        self.write(f"{below}/net/{name}/operstate", "up\n")
        self.link(f"sys/class/net/{name}", f"{below}/net/{name}")

    def put_above(self, upper: str, lower: str) -> None:
        """Make a network interface of another one."""
        self.link(f"sys/class/net/{lower}/upper_{upper}", f"sys/class/net/{upper}")
        self.link(f"sys/class/net/{upper}/lower_{lower}", f"sys/class/net/{lower}")

    def input(
        self,
        event: str,
        below: str,
        *,
        keys: str = "0",
        rel: str = "0",
        absolute: str = "0",
        bus: str = "0003",
        vendor: str = "1234",
    ) -> None:
        """Add an input device below a folder."""
        folder = f"{below}/input/input{event.removeprefix('event')}"
        self.write(f"{folder}/capabilities/key", f"{keys}\n")
        self.write(f"{folder}/capabilities/rel", f"{rel}\n")
        self.write(f"{folder}/capabilities/abs", f"{absolute}\n")
        self.write(f"{folder}/id/bustype", f"{bus}\n")
        self.write(f"{folder}/id/vendor", f"{vendor}\n")
        (self.root / folder / event).mkdir()
        self.link(f"{folder}/{event}/device", folder)
        self.link(f"sys/class/input/{event}", f"{folder}/{event}")

    def keyboard(self, event: str, below: str, **more: str) -> None:
        """Add a keyboard."""
        self.input(event, below, keys=KEYBOARD_KEYS, **more)

    def mouse(self, event: str, below: str, **more: str) -> None:
        """Add a mouse."""
        self.input(event, below, keys=MOUSE_KEYS, rel="1943", **more)


def local_device(*classes: int, port: str = "1-4") -> LocalDevice:
    """Return a device of the tree, with interfaces of these base classes."""
    return LocalDevice(
        ids=VendorProduct(0x1234, 0x5678),
        bus=1,
        address=4,
        port_path=port,
        serial="S1",
        manufacturer="ACME",
        product="Thing",
        speed=Speed.HIGH,
        classes=tuple(UsbClass(base, 0, 0) for base in classes),
        node="/dev/bus/usb/001/004",
    )
