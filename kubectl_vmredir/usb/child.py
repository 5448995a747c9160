"""``kubectl-vmredir usb-host``: what the program starts for one device, by itself.

It is no command of the command line, which would take longer to load than all that it does here.
Nobody else types it, so nothing is said about wrong flags.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAME: Final = "usb-host"
"""First argument of the program that starts it."""

REFUSED: Final = 3
"""Exit status when a driver could not be put back."""


def serve(flags: Mapping[str, str]) -> None:
    """Be the usb-host of one device.

    Args:
        flags: ``data`` (socket for usbredir), ``control`` (socket for JSON lines), ``node`` (the
            device node), ``journal`` (file of the claim, locked): descriptors that were inherited.
            ``root`` (where ``sys`` and ``proc`` are), ``limit`` (seconds that the device may hang).
    """
    import socket
    from pathlib import Path

    from kubectl_vmredir.usb import host
    from kubectl_vmredir.usb.journal import Entry
    from kubectl_vmredir.usb.tree import Tree

    data, control = (socket.socket(fileno=int(flags[name])) for name in ("data", "control"))
    with data, control:
        host.serve(
            data,
            control,
            int(flags["node"]),
            Entry(int(flags["journal"])),
            tree=Tree(Path(flags["root"])),
            limit_s=int(flags["limit"]),
        )


def rescue(flags: Mapping[str, str]) -> int:
    """Put back the drivers of a device that a former one has left; return the exit status.

    Args:
        flags: ``node`` and ``limit``, as for :func:`serve`; ``interfaces`` (those that had a
            driver, with commas between them), ``configuration`` (that was active).
    """
    from kubectl_vmredir.usb.rescue import put_back

    signal.alarm(int(flags["limit"]))  # ends the process
    interfaces = [int(number) for number in flags["interfaces"].split(",") if number]
    done = put_back(int(flags["node"]), interfaces, int(flags["configuration"]))
    return 0 if done else REFUSED


def main(argv: Sequence[str]) -> int:
    """Do what the flags say; return the exit status.

    Args:
        argv: ``--NAME=VALUE`` each; see :func:`serve` and :func:`rescue`.
    """
    flags = dict(each.removeprefix("--").split("=", 1) for each in argv)
    if "interfaces" in flags:
        return rescue(flags)
    serve(flags)
    return 0
