"""``kubectl vmredir usb-host``: started by the program itself, one for each device it redirects."""

from __future__ import annotations

from pathlib import Path

import click

from kubectl_vmredir.bootstrap import run_usb_host


@click.command(hidden=True)
@click.option("--data", type=int, help="Socket for usbredir; without it the device is given back.")
@click.option("--control", type=int, help="Socket for JSON lines; goes with --data.")
@click.option("--node", type=int, required=True, help="The device node.")
@click.option("--journal", type=int, required=True, help="File of the claim, locked.")
@click.option("--root", type=Path, required=True, help="Where sys and proc are.")
@click.option("--limit", type=click.IntRange(1), required=True, help="Seconds it may hang.")
def command(
    data: int | None, control: int | None, node: int, journal: int, root: Path, limit: int
) -> None:
    """Redirect one device; the arguments are descriptors that were inherited."""
    sockets = (data, control) if data is not None and control is not None else None
    run_usb_host(sockets, node=node, journal=journal, root=root, limit_s=limit)
