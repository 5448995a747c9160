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

COMMANDS: Final = {
    "agent": "The background process that keeps redirections up.",
    "bind": "Plug a device into a VM, and keep it plugged.",
    "completion": "Have the tab key complete our words.",
    "demo": "Show a USB stick in a VM that moves.",
    "devices": "List the USB devices that can be bound, and who uses them.",
    "doctor": "Find out what keeps USB devices from working.",
    "events": "Tell what has happened to what is bound.",
    "lab": "Run an embedded cluster with virtual devices.",
    "migrate": "Ask for a live migration of a VM, as virtctl migrate does.",
    "pause": "Take a device back until it is resumed.",
    "reconnect": "Close the link to the VM, and dial anew.",
    "resume": "Plug a device in again that was paused.",
    "slots": "List VMs with their USB slots.",
    "status": "Show what is bound, and how it stands.",
    "unbind": "Take a device back from its VM.",
    "version": "Print the version of this program.",
}
"""What each command does, as its own help begins: to import them all for that takes long."""

_SCREEN: Final = "screen"
"""The command that is meant where none is named."""


class LazyGroup(ClusterGroup):
    """Imports a command when it is asked for, so that ``--help`` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now."""
        if cmd_name not in COMMANDS and cmd_name != _SCREEN:
            return None
        module = importlib.import_module(f"kubectl_vmredir.cli.commands.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command does, without importing it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

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
