"""Who uses a USB device: kernel drivers, and programs through nodes of the device.

Everything blocks: call it in a thread. Names of programs are untrusted.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.model import Holder
from kubectl_vmredir.usb.discovery import ROOT, below, sysfs_path
from kubectl_vmredir.usb.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from kubectl_vmredir.model import LocalDevice

USBFS: Final = "usbfs"
"""Driver of an interface that a program in user space has claimed."""

UNSEEN: Final = "another user's program"
"""Name of a holder that this user may not see."""

_INTERFACE: Final = re.compile(r"[\d.-]+:\d+\.(\d+)")
_DEVNAME: Final = re.compile(r"^DEVNAME=(.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Known:
    """A program that is known to take USB devices.

    Attributes:
        command: What makes it let go.
        classes: Classes of the interfaces that it claims in user space; empty if it claims none.
        vendors: The only vendors whose devices it claims; empty for any.
    """

    command: str
    classes: frozenset[int] = frozenset()
    vendors: frozenset[int] = frozenset()

    def claims(self, device: LocalDevice) -> bool:
        """Return whether a device is of the sort that it claims."""
        return (not self.vendors or device.ids.vendor_id in self.vendors) and any(
            usb_class.base in self.classes for usb_class in device.classes
        )


_GVFS_PHOTO: Final = Known("gio mount --unmount-scheme gphoto2", frozenset({6}))

KNOWN: Final = {
    "pcscd": Known("sudo systemctl stop pcscd.socket pcscd", frozenset({11})),
    "scdaemon": Known("gpgconf --kill scdaemon", frozenset({11})),
    "usbmuxd": Known("sudo systemctl stop usbmuxd", frozenset({6, 0xFF}), frozenset({0x05AC})),
    "ipp-usb": Known("sudo systemctl stop ipp-usb", frozenset({7})),
    "gvfsd-mtp": Known("gio mount --unmount-scheme mtp", frozenset({6, 0xFF})),
    "gvfsd-gphoto2": _GVFS_PHOTO,
    "gvfs-gphoto2-vo": _GVFS_PHOTO,
    "adb": Known("adb kill-server", frozenset({0xFF})),
    "brltty": Known("sudo systemctl stop brltty", frozenset({3, 0xFF})),
    "ModemManager": Known("sudo systemctl stop ModemManager"),
    "fwupd": Known("sudo systemctl stop fwupd"),
}
"""By the name that the kernel has of them, 15 characters at most.

Not here: what lets go by itself when the driver goes (pipewire, wireplumber, pulseaudio).
"""


def drivers(device: LocalDevice, *, root: Path = ROOT) -> tuple[str, ...]:
    """Return the driver of each interface, in their order; empty text for none.

    ``usbfs`` is a program in user space.

    Raises:
        DeviceNotFound: If it is not plugged in.
    """
    sysfs_path(device, root=root)
    return tuple(driver for _, driver in _interfaces(Tree(root), device))


def find_holders(
    device: LocalDevice, *, own: Collection[int] = (), root: Path = ROOT
) -> tuple[Holder, ...]:
    """Return the programs that use a device, those that have claimed it first.

    A program is found by its open node: of the device itself (``/dev/bus/usb/...``), or of what
    a driver has made of it (hidraw, ttyACM, video, snd, lp, sd ...). Nodes of input devices do
    not count: the desktop reads them all. Where an interface is claimed (driver ``usbfs``) and
    nobody can be seen who did it, there is one holder without a process id; it has the name of
    a program that is known to do such things, if one runs.

    Args:
        device: A device of this machine.
        own: Process ids of ours, which are no holders.
        root: Where ``sys``, ``proc`` and ``dev`` are.

    Raises:
        DeviceNotFound: If it is not plugged in.
    """
    sysfs_path(device, root=root)
    tree = Tree(root)
    claimed = USBFS in (driver for _, driver in _interfaces(tree, device))
    nodes = _nodes(tree, device)
    seen, hidden = _processes(tree, nodes)
    # The kernel does not say who has claimed an interface: we, if we have the device open. Nobody
    # may look into a usb-host of ours.
    claimed = claimed and not any(pid in hidden or nodes[0] in seen.get(pid, ()) for pid in own)
    holders = [
        _holder(tree, pid, held[0], claims=claimed and held[0] == nodes[0])
        for pid, held in seen.items()
        if pid not in own
    ]
    if claimed and not any(holder.claims for holder in holders):
        holders.append(_unseen(device, nodes[0], {_program(tree, pid) for pid in hidden}))
    return tuple(sorted(holders, key=lambda holder: (not holder.claims, holder.pid or 0)))


def _folder(device: LocalDevice) -> str:
    return f"sys/bus/usb/devices/{device.port_path}"


def _interfaces(tree: Tree, device: LocalDevice) -> list[tuple[int, str]]:
    """Return number and driver of each interface of the active configuration, by number."""
    folder = _folder(device)
    return sorted(
        (int(match[1]), tree.link_name(f"{folder}/{match[0]}/driver"))
        for match in map(_INTERFACE.fullmatch, tree.names(folder))
        if match
    )


def _nodes(tree: Tree, device: LocalDevice) -> list[str]:
    """Return the nodes of a device and of what drivers made of it.

    First come those through which a program talks to the device itself: who has one of them and
    another one open is told by it.
    """
    own = f"/dev/bus/usb/{device.bus:03}/{device.address:03}"
    # Only what has a node has `dev`: elsewhere `uevent` may hold a text of the device.
    uevents = (
        tree.attribute(f"{path}/uevent")
        for path in below(tree.root / _folder(device))
        if (path / "dev").exists()
    )
    made = [f"/dev/{match[1]}" for match in map(_DEVNAME.search, uevents) if match]
    made.sort(key=lambda node: not node.startswith("/dev/hidraw"))
    return [own, *(node for node in made if node != own and not node.startswith("/dev/input/"))]


def _processes(tree: Tree, nodes: list[str]) -> tuple[dict[int, list[str]], list[int]]:
    """Return which of these nodes processes have open, and which processes we may not see."""
    seen: dict[int, list[str]] = {}
    hidden: list[int] = []
    for pid in map(int, filter(str.isdecimal, tree.names("proc"))):
        descriptors = tree.root / f"proc/{pid}/fd"
        try:
            targets = {_target(descriptors / name) for name in os.listdir(descriptors)}
        except PermissionError:
            hidden.append(pid)
        except OSError:  # it has ended
            continue
        else:
            if held := [node for node in nodes if node in targets]:
                seen[pid] = held
    return seen, hidden


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:  # closed meanwhile
        return ""


def _program(tree: Tree, pid: int) -> str:
    return tree.attribute(f"proc/{pid}/comm")


def _holder(tree: Tree, pid: int, node: str, *, claims: bool) -> Holder:
    program = _program(tree, pid)
    known = KNOWN.get(program)
    return Holder(program, pid, node, claims, known.command if known else "")


def _unseen(device: LocalDevice, node: str, hidden: Collection[str]) -> Holder:
    """Return who has claimed a device out of our sight, judged by what runs there."""
    likely = [name for name, known in KNOWN.items() if name in hidden and known.claims(device)]
    if len(likely) == 1:
        return Holder(f"{likely[0]} (probably)", None, node, True, KNOWN[likely[0]].command)
    return Holder(UNSEEN, None, node, True, f"sudo fuser -v {node}")
