"""How this machine uses a USB device right now, read from sysfs and /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import DeviceNotFound
from kubectl_vmredir.model import DeviceSelector, DeviceUse

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kubectl_vmredir.model import LocalDevice

ROOT: Final = Path("/")
"""Where ``sys``, ``proc`` and ``dev`` are; a test has a small tree of its own."""


def look(
    device: LocalDevice,
    *,
    own_pids: Collection[int],
    server_hosts: Sequence[str],
    root: Path = ROOT,
) -> DeviceUse:
    """Look how this machine uses a device, and what speaks against taking it.

    Blocks: it reads many files, and may ask a name server. Whether one of our own programs has
    claimed the device is not known here (``redirected_by`` is None): the journal says that.

    Args:
        device: A device of this machine.
        own_pids: Processes of ours, which are no holders.
        server_hosts: Names or addresses of the API server, and of the proxy on the way to it;
            empty if no cluster is meant.
        root: Where ``sys``, ``proc`` and ``dev`` are.

    Raises:
        DeviceNotFound: If it is not plugged in.
    """
    folder = root / "sys/bus/usb/devices" / device.port_path
    if not folder.exists():
        raise DeviceNotFound(DeviceSelector.of(device))
    return DeviceUse(openable=device.node is not None and os.access(device.node, os.R_OK | os.W_OK))
