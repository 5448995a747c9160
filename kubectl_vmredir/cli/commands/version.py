"""``kubectl vmredir version``."""

from __future__ import annotations

import platform

import click

from kubectl_vmredir import __version__
from kubectl_vmredir.cli.output import API_VERSION, document


@click.command()
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="How to print.")
def command(output: str | None) -> None:
    """Print the version of this program."""
    if output:
        document(
            {
                "apiVersion": API_VERSION,
                "kind": "Version",
                "version": __version__,
                "python": platform.python_version(),
                "platform": platform.platform(),
            },
            output,
        )
    else:
        click.echo(f"kubectl-vmredir {__version__}")
