"""``kubectl vmredir doctor``: what keeps USB devices of this machine from being redirected."""

from __future__ import annotations

from typing import Final

import click

from kubectl_vmredir.bootstrap import examine_usb, udev_rule
from kubectl_vmredir.cli.options import ClusterCommand, output_flags, parse_device
from kubectl_vmredir.cli.output import Column, Listing, printable
from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.model import Check, Outcome

CHECKS: Final[Listing[Check]] = Listing(
    kind="CheckList",
    columns=(
        Column("CHECK", lambda check: check.name),
        Column("OUTCOME", lambda check: check.outcome),
        Column("MESSAGE", lambda check: check.message),
        Column("COMMAND", lambda check: check.command),
    ),
    name=lambda check: check.name,
    empty="Nothing to check.",
)

_COLORS: Final = {Outcome.OK: "green", Outcome.WARNING: "yellow", Outcome.FAILED: "red"}
_WIDTH: Final = max(map(len, Outcome)) + 2


@click.command(cls=ClusterCommand, short_help="Find out what keeps USB devices from working.")
@click.option("--udev-rule", "device", metavar="DEVICE", help="Print the udev rule for a device.")
@output_flags
def command(device: str | None, output: str | None, no_headers: bool) -> int:
    """Look at what this machine needs to redirect USB devices, and say what repairs it.

    Asks no cluster. The exit status is 1 if something failed.
    """
    if device is not None:
        click.echo(udev_rule(parse_device(device)), nl=False)
        return ExitCode.OK
    checks = examine_usb()
    if output is None:
        for check in checks:
            tell(check)
    else:
        CHECKS.print(checks, output, headers=not no_headers)
    failed = any(check.outcome is Outcome.FAILED for check in checks)
    return ExitCode.FAILURE if failed else ExitCode.OK


def tell(check: Check) -> None:
    """Print a check in a line, and below it the command that repairs it."""
    outcome = click.style(f"{check.outcome:<{_WIDTH}}", fg=_COLORS[check.outcome])
    click.echo(f"{outcome}{check.name}: {printable(check.message)}")
    if check.command:
        click.echo(f"{' ' * _WIDTH}run: {printable(check.command)}")
