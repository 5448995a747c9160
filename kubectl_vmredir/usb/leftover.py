"""What a process that was killed has left claimed, and how it is given back at the next start.

Somebody waits for that: it is done before the program is loaded, so little is imported here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from typing import TYPE_CHECKING, Final

import platformdirs

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_vmredir.usb.journal import Claim, Entry, Journal

CALL_LIMIT_S: Final = 10
"""How long we may be in the kernel at once: as long as a device, or its driver, may hang."""


def claims_folder() -> Path:
    """Return where the user's journal of claims is."""
    return platformdirs.user_state_path("kubectl-vmredir") / "claims"


def begin_to_give_back(folder: Path, *, root: Path) -> None:
    """Have a process of its own give back each device that is left; wait for none of them.

    Who claims a device meets their locks. What they cannot do is tried again, and told, by
    :class:`~kubectl_vmredir.usb.process.UsbHosts`. To be called before there are threads.

    Args:
        folder: Of the journal.
        root: Where ``sys``, ``proc`` and ``dev`` are.
    """
    try:
        with os.scandir(folder) as files:
            if not any(file.stat(follow_symlinks=False).st_size for file in files):
                return
    except OSError:
        return
    import logging

    from kubectl_vmredir.usb.journal import Journal, read_boot_id

    # Nobody has said yet where the log goes: without this, to stderr.
    logging.getLogger("kubectl_vmredir").addHandler(logging.NullHandler())
    journal = Journal(folder, boot_id=read_boot_id(root))
    with contextlib.suppress(OSError):  # no process can be had: it is tried again later
        for port_path in journal.left():
            if (child := os.fork()) == 0:
                # Whose parent is gone is waited for by the system.
                try:
                    if os.fork() == 0:
                        _be_apart()
                        _give_back(journal, port_path, root)
                finally:
                    os._exit(0)
            os.waitpid(child, 0)


def _give_back(journal: Journal, port_path: str, root: Path) -> None:
    """Put back the drivers of the device that was left in a port; ends the process if it hangs."""
    from kubectl_vmredir.errors import UsbError
    from kubectl_vmredir.usb.rescue import put_back

    signal.alarm(CALL_LIMIT_S)
    with contextlib.suppress(UsbError):
        if (entry := journal.lock(port_path)) is None:
            return
        with entry:
            if (left := open_left(entry, journal, root)) is None:
                entry.clear()
                return
            node, claim = left
            if put_back(node, claim.driven, claim.configuration):
                entry.clear()


def open_left(entry: Entry, journal: Journal, root: Path) -> tuple[int, Claim] | None:
    """Return a descriptor of the node of a device that a process of ours left, and its claim.

    None if there is nothing to be given back: the device is gone, or was given back.

    Raises:
        UsbError: If the node cannot be opened.
    """
    from kubectl_vmredir.errors import UsbError
    from kubectl_vmredir.usb.tree import Tree

    with contextlib.suppress(OSError):  # no room: who finds the port locked reads the former pid
        entry.sign(given_back=True)
    claim = entry.read()
    if claim is None or claim.boot_id != journal.boot_id:
        return None
    tree = Tree(root)
    there = [
        tree.attribute(f"sys/bus/usb/devices/{claim.port_path}/{name}")
        for name in ("idVendor", "idProduct", "busnum", "devnum")
    ]
    if there != [*str(claim.ids).split(":"), str(claim.bus), str(claim.address)]:
        return None
    path = root / f"dev/bus/usb/{claim.bus:03}/{claim.address:03}"
    try:
        return open_node(path), claim
    except OSError as exc:
        if exc.errno in (errno.ENOENT, errno.ENODEV):
            return None
        raise UsbError(f"cannot open {path}: {exc.strerror}") from exc


def open_node(path: Path) -> int:
    """Open a device node for reading and writing; whatever it is, it does not become our terminal.

    Raises:
        OSError: If it cannot be opened.
    """
    return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)


def _be_apart() -> None:
    """Leave the terminal, and what our parent was given to write to."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(nothing, descriptor)
