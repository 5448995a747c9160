"""``kubectl vmredir migrate``: ask for a live migration of a VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kubectl_vmredir.cli import candidates
from kubectl_vmredir.cli.options import ClusterCommand, parse_vmi
from kubectl_vmredir.cli.run import with_service

if TYPE_CHECKING:
    from kubectl_vmredir.bootstrap import Options
    from kubectl_vmredir.cli.reaching import Reached


@click.command(cls=ClusterCommand)
@click.argument("vmi", metavar="VMI", shell_complete=candidates.vms)
@click.option("-o", "--output", type=click.Choice(["name"]), help="How to print.")
@click.pass_obj
def command(options: Options, vmi: str, output: str | None) -> None:
    """Ask for a live migration of a VM, as virtctl migrate does."""

    async def ask(reached: Reached) -> None:
        ref = parse_vmi(vmi, reached.namespace)
        name = await reached.service.migrate(ref)
        kind = "virtualmachineinstancemigration.kubevirt.io"
        click.echo(f"{kind}/{name}" if output else f"{kind}/{name} created")

    with_service(options, ask)
