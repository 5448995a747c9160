"""``kubectl-vmredir usb-host``: what the program starts for one device, by itself.

It is no command of the command line, which would take longer to load than all that it does here.
Nobody else types it, so nothing is said about wrong flags.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.usb.journal import Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME: Final = "usb-host"
"""First argument of the program that starts it."""


def main(argv: Sequence[str]) -> None:
    """Be the usb-host of one device, or give back a device that a former one has left.

    Args:
        argv: ``--NAME=VALUE`` for each of: ``data`` (socket for usbredir) and ``control`` (socket
            for JSON lines), both left out to give the device back; ``node`` (the device node),
            ``journal`` (file of the claim, locked); ``root`` (where ``sys`` and ``proc`` are),
            ``limit`` (seconds that the device may hang). The first four are descriptors that were
            inherited.
    """
    flags = dict(each.removeprefix("--").split("=", 1) for each in argv)
    node, limit_s = int(flags["node"]), int(flags["limit"])
    entry = Entry(int(flags["journal"]))
    if "data" not in flags:
        from kubectl_vmredir.usb.rescue import rescue

        rescue(node, entry, limit_s=limit_s)
        return
    from kubectl_vmredir.usb.host import serve
    from kubectl_vmredir.usb.tree import Tree

    data, control = (socket.socket(fileno=int(flags[name])) for name in ("data", "control"))
    with data, control:
        serve(data, control, node, entry, tree=Tree(Path(flags["root"])), limit_s=limit_s)
