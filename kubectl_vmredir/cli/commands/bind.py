"""``kubectl vmredir bind``: a device in a slot of a VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kubectl_vmredir.cli.foreground import keep_bound
from kubectl_vmredir.cli.options import ClusterCommand, parse_device, parse_target
from kubectl_vmredir.cli.plan import show
from kubectl_vmredir.cli.run import with_service
from kubectl_vmredir.errors import UsageError
from kubectl_vmredir.service.interface import TRIAL_S, BindRequest

if TYPE_CHECKING:
    from kubectl_vmredir.bootstrap import Connection, Options


@click.command(cls=ClusterCommand, short_help="Plug a device into a VM, and keep it plugged.")
@click.argument("device", metavar="DEVICE")
@click.argument("target", metavar="VMI[/SLOT]")
@click.option("--foreground", is_flag=True, help="Stay, and unbind at ctrl-c.")
@click.option(
    "--force",
    is_flag=True,
    help="Take the device although it is in use here. What would break this machine is refused "
    "all the same.",
)
@click.option(
    "--allow",
    type=click.Choice(["keyboard"]),
    help="Take the device although it is the only keyboard or pointer of this machine. It comes "
    f"back after {TRIAL_S:.0f} s unless you confirm that it may stay in the VM.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["json", "yaml"]),
    help="How to print a dry run; stable for scripts.",
)
@click.pass_obj
def command(
    options: Options,
    *,
    device: str,
    target: str,
    foreground: bool,
    force: bool,
    allow: str | None,
    dry_run: bool,
    output: str | None,
) -> int:
    """Plug a device into a VM, and keep it plugged while the VM migrates.

    DEVICE is VID:PID, VID:PID:SERIAL, BUS-DEV or port:PATH; list them with: kubectl vmredir devices
    """
    selector = parse_device(device)
    if output is not None and not dry_run:
        raise UsageError("-o needs --dry-run")
    if not foreground and not dry_run:
        raise UsageError(
            "this version has no background agent, which would keep the device plugged",
            hint="Add --foreground, and leave the command running.",
        )

    async def work(connection: Connection) -> int:
        vmi, slot = parse_target(target, connection.namespace)
        request = BindRequest(selector, vmi, slot, force=force, allow_keyboard=allow == "keyboard")
        if dry_run:
            return show(await connection.service.plan(request), output)
        return await keep_bound(connection.service, request)

    return with_service(options, work)
