"""How this machine uses a USB device right now, read from sysfs and /proc."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from kubectl_vmredir.model import DeviceUse
from kubectl_vmredir.usb.discovery import ROOT, sysfs_path
from kubectl_vmredir.usb.holders import drivers, find_holders
from kubectl_vmredir.usb.safety import findings
from kubectl_vmredir.usb.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from kubectl_vmredir.model import LocalDevice


def look(
    device: LocalDevice,
    *,
    own_pids: Collection[int],
    server_hosts: Sequence[str],
    root: Path = ROOT,
) -> DeviceUse:
    """Look how this machine uses a device, and what speaks against taking it.

    Blocks: it reads many files, and for a network interface may ask a name server. Whether one of
    our own programs has claimed the device is not known here (``redirected_by`` is None): the
    journal says that.

    Args:
        device: A device of this machine.
        own_pids: Processes of ours, which are no holders.
        server_hosts: Names or addresses of the API server, and of the proxy on the way to it;
            empty if no cluster is meant.
        root: Where ``sys``, ``proc`` and ``dev`` are.

    Raises:
        DeviceNotFound: If it is not plugged in.
    """
    folder = sysfs_path(device, root=root)
    holders = find_holders(device, own=own_pids, root=root)
    return DeviceUse(
        drivers=drivers(device, root=root),
        openable=may_open(device, root=root),
        holders=holders,
        findings=findings(
            Tree(root),
            device,
            folder,
            holders=holders,
            server_hosts=server_hosts,
            udisks=shutil.which("udisksctl") is not None,
        ),
    )


def may_open(device: LocalDevice, *, root: Path = ROOT) -> bool:
    """Return whether this user may open the node of a device for reading and writing."""
    return device.node is not None and os.access(
        root / device.node.removeprefix("/"), os.R_OK | os.W_OK
    )
