"""``kubectl vmredir bind``: a device in a slot of a VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kubectl_vmredir.cli.foreground import keep_bound
from kubectl_vmredir.cli.options import ClusterCommand, parse_device, parse_target
from kubectl_vmredir.cli.run import with_service
from kubectl_vmredir.errors import UsageError
from kubectl_vmredir.service.interface import BindRequest

if TYPE_CHECKING:
    from kubectl_vmredir.bootstrap import Connection, Options


@click.command(cls=ClusterCommand, short_help="Plug a device into a VM, and keep it plugged.")
@click.argument("device", metavar="DEVICE")
@click.argument("target", metavar="VMI[/SLOT]")
@click.option("--foreground", is_flag=True, help="Stay, and unbind at ctrl-c.")
@click.pass_obj
def command(options: Options, device: str, target: str, foreground: bool) -> int:
    """Plug a device into a VM, and keep it plugged while the VM migrates.

    DEVICE is VID:PID, VID:PID:SERIAL, BUS-DEV or port:PATH; list them with: kubectl vmredir devices
    """
    selector = parse_device(device)
    if not foreground:
        raise UsageError(
            "this version has no background agent, which would keep the device plugged",
            hint="Add --foreground, and leave the command running.",
        )

    async def stay(connection: Connection) -> int:
        vmi, slot = parse_target(target, connection.namespace)
        return await keep_bound(connection.service, BindRequest(selector, vmi, slot))

    return with_service(options, stay)
