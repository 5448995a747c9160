"""``kubectl vmredir``: the entry point, and the only place that prints an error."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from kubectl_vmredir.cli.diagnostics import tell_error
from kubectl_vmredir.cli.options import ClusterGroup
from kubectl_vmredir.cli.output import abandon
from kubectl_vmredir.errors import ExitCode, UsageError, VmRedirError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = "kubectl vmredir"

_COMMANDS: Final = {
    "agent": "agent",
    "bind": "bind",
    "completion": "completion",
    "demo": "demo",
    "devices": "devices",
    "doctor": "doctor",
    "events": "events",
    "lab": "lab",
    "migrate": "migrate",
    "pause": "pause",
    "reconnect": "reconnect",
    "resume": "resume",
    "slots": "slots",
    "status": "status",
    "unbind": "unbind",
    "version": "version",
}
"""Module in ``commands`` by name of the command."""

_SCREEN: Final = "screen"
"""The command that is meant where none is named."""


class LazyGroup(ClusterGroup):
    """Imports a command when it is asked for, so that ``--help`` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now."""
        if (name := (_COMMANDS | {_SCREEN: _SCREEN}).get(cmd_name)) is None:
            return None
        module = importlib.import_module(f"kubectl_vmredir.cli.commands.{name}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run the command; that nobody reads its output any more is no failure of it."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # as in `... | head`; click would call it a failure
            abandon(sys.stdout)
            return ExitCode.OK


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--read-only", is_flag=True, help="Without a command: only look, change nothing.")
@click.option(
    "--foreground",
    is_flag=True,
    help="Without a command: no agent; devices come back when the program ends.",
)
@click.pass_context
def cli(context: click.Context, read_only: bool, foreground: bool) -> Any:  # noqa: ANN401 - what the command returns
    """Plug local USB devices into KubeVirt VMs, and keep them plugged while the VM migrates.

    \b
    Open the program:      kubectl vmredir
    List what there is:    kubectl vmredir devices
                           kubectl vmredir slots -A
    Plug a device in:      kubectl vmredir bind 0951:1666 my-vm/flash
    See how it goes:       kubectl vmredir status
    Take it back:          kubectl vmredir unbind my-vm/flash
    See it at work:        kubectl vmredir demo --headless
    """  # noqa: D301 - \b is click's
    flags = [*["--read-only"] * read_only, *["--foreground"] * foreground]
    if (name := context.invoked_subcommand) is not None:
        if flags:
            raise UsageError(f"{flags[0]} goes behind {name}, if {name} has it")
        return None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        click.echo(context.get_help(), err=True)
        return ExitCode.USAGE
    command = cli.get_command(context, _SCREEN)
    assert command is not None, "it is one of ours"
    with command.make_context(_SCREEN, flags, parent=context) as inner:
        return command.invoke(inner)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    try:
        status = cli.main(args=argv, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except VmRedirError as error:
        tell_error(str(error), error.hint)
        return error.exit_code
    return status if isinstance(status, int) else ExitCode.OK
