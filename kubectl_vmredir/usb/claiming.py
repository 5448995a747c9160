"""What is opened for a usb-host process before it starts; says who has the device otherwise.

Everything blocks: call it in a thread.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from kubectl_vmredir.errors import (
    DeviceBusy,
    DeviceNotFound,
    DevicePermissionDenied,
    DeviceReleasing,
    UsbError,
)
from kubectl_vmredir.model import DeviceSelector
from kubectl_vmredir.usb import library
from kubectl_vmredir.usb.discovery import sysfs_path
from kubectl_vmredir.usb.holders import USBFS, find_holders
from kubectl_vmredir.usb.journal import Claim, FormerDriver, Holding, unwritable
from kubectl_vmredir.usb.leftover import open_node
from kubectl_vmredir.usb.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from kubectl_vmredir.model import LocalDevice
    from kubectl_vmredir.usb.journal import Entry, Journal


@dataclass(frozen=True, slots=True)
class Prepared:
    """A device that nobody else has; a context manager that closes both.

    Attributes:
        node: Descriptor of the device node, open for reading and writing.
        entry: Of the journal, locked, with the claim written down.
    """

    node: int
    entry: Entry

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close both."""
        os.close(self.node)
        self.entry.close()


def prepare(
    device: LocalDevice, journal: Journal, root: Path, *, releasing: Collection[int] = ()
) -> Prepared:
    """Open what a usb-host needs for exactly this device, and write down that it is claimed.

    Args:
        device: A device of this machine.
        journal: Of the claims.
        root: Where ``sys``, ``proc`` and ``dev`` are.
        releasing: Processes of this program that are told to give their devices back.

    Raises:
        DeviceNotFound: If it is not plugged in.
        DeviceBusy: If another program has it, or another process of ours.
        DeviceReleasing: If it is just being given back; that takes longer than we wait for it.
        DevicePermissionDenied: If this user may not open it.
        UsbUnavailable: If a library is missing.
        UsbError: If the node cannot be opened, or nothing can be written down.
    """
    library.load()
    with ExitStack() as undo:
        entry = undo.enter_context(_lock(device, journal, releasing))
        node = _open(device, root)
        undo.callback(os.close, node)
        # Now that it is open, no other device can get its address.
        folder = sysfs_path(device, root=root)
        claim = _describe(device, folder, journal)
        if USBFS in claim.drivers:
            raise _busy(device, root)
        try:
            entry.write(_with_what_was_left(claim, entry.read()))
        except OSError as exc:
            raise unwritable(journal.folder, exc) from exc
        undo.pop_all()
        return Prepared(node, entry)


def _lock(device: LocalDevice, journal: Journal, releasing: Collection[int]) -> Entry:
    while (entry := journal.lock(device.port_path)) is None:
        match journal.holding(device.port_path):
            case None:
                pass  # it has let go just now
            case Holding(pid=pid, ending=ending) if ending or pid in releasing:
                raise DeviceReleasing(device, pid)
            case Holding(pid=pid):
                raise DeviceBusy(
                    device,
                    f"another kubectl-vmredir (process {pid})",
                    hint=f"Unbind it there first. Or end it with: kill {pid}",
                )
    return entry


def _open(device: LocalDevice, root: Path) -> int:
    assert device.node is not None, "a device of this machine has a node"
    try:
        return open_node(root / device.node.removeprefix("/"))
    except PermissionError as exc:
        raise DevicePermissionDenied(device) from exc
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENODEV):
            raise DeviceNotFound(DeviceSelector.of(device)) from exc
        raise UsbError(f"cannot open {device.node}: {exc.strerror}") from exc


def _describe(device: LocalDevice, folder: Path, journal: Journal) -> Claim:
    """Return the claim on a device as it is now."""
    tree = Tree(folder)
    configuration = tree.attribute("bConfigurationValue")
    interfaces = [
        FormerDriver(int(number), tree.link_name(f"{name}/driver"))
        for name in tree.names("")
        for prefix, _, number in [name.rpartition(".")]
        if prefix == f"{folder.name}:{configuration}" and number.isdecimal()
    ]
    return Claim(
        boot_id=journal.boot_id,
        port_path=device.port_path,
        ids=device.ids,
        bus=device.bus,
        address=device.address,
        configuration=int(configuration) if configuration.isdecimal() else 0,
        interfaces=tuple(sorted(interfaces, key=lambda former: former.interface)),
        pid=os.getpid(),
    )


def _with_what_was_left(claim: Claim, left: Claim | None) -> Claim:
    """Return the claim, of what the device had before a claim that is not given back yet."""
    if left is None or left.device != claim.device:
        return claim
    former = {interface.interface: interface for interface in left.interfaces}
    driven = {interface.interface: interface for interface in claim.interfaces if interface.driver}
    now = {interface.interface: interface for interface in claim.interfaces}
    return replace(
        claim,
        configuration=left.configuration,
        interfaces=tuple(interface for _, interface in sorted({**now, **former, **driven}.items())),
    )


def _busy(device: LocalDevice, root: Path) -> DeviceBusy:
    holders = [holder for holder in find_holders(device, root=root) if holder.claims]
    names = ", ".join(
        f"{holder.program} (process {holder.pid})" if holder.pid else holder.program
        for holder in holders
    )
    commands = dict.fromkeys(f"  {holder.command}" for holder in holders if holder.command)
    return DeviceBusy(
        device,
        names or "a program in user space",
        hint="\n".join(["Make it let go:", *commands]) if commands else None,
    )
