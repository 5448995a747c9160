"""``kubectl vmredir bind``: a device in a slot of a VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kubectl_vmredir.cli import candidates
from kubectl_vmredir.cli.foreground import keep_bound
from kubectl_vmredir.cli.options import (
    ClusterCommand,
    parse_device,
    parse_target,
    timeout_flag,
    verbosity,
)
from kubectl_vmredir.cli.plan import show
from kubectl_vmredir.cli.reaching import agent_is_needed, service_anywhere, service_in_agent
from kubectl_vmredir.cli.run import run_with, with_own_service
from kubectl_vmredir.cli.waiting import bind_and_go, bind_and_wait, tell_result
from kubectl_vmredir.errors import ExitCode, UsageError
from kubectl_vmredir.service.interface import TRIAL_S, BindRequest

if TYPE_CHECKING:
    from kubectl_vmredir.bootstrap import Connection, Options
    from kubectl_vmredir.cli.reaching import Reached


@click.command(cls=ClusterCommand, short_help="Plug a device into a VM, and keep it plugged.")
@click.argument("device", metavar="DEVICE", shell_complete=candidates.devices)
@click.argument("target", metavar="VMI[/SLOT]", shell_complete=candidates.slots)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Return when the device is plugged in, or as soon as the agent knows that it is wanted.",
)
@timeout_flag
@click.option("--foreground", is_flag=True, help="Stay, and unbind at ctrl-c; needs no agent.")
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
    type=click.Choice(["json", "yaml", "name"]),
    help="How to print the result, or with json and yaml a dry run; stable for scripts.",
)
@click.pass_obj
def command(
    options: Options,
    *,
    device: str,
    target: str,
    wait: bool,
    timeout_s: float | None,
    foreground: bool,
    force: bool,
    allow: str | None,
    dry_run: bool,
    output: str | None,
) -> int:
    """Plug a device into a VM, and keep it plugged while the VM migrates.

    The agent, a background process, does that: it is started if it does not run, and goes on when
    this terminal is closed.

    DEVICE is VID:PID, VID:PID:SERIAL, BUS-DEV or port:PATH; list them with: kubectl vmredir devices
    """
    selector = parse_device(device)
    parse_target(target, "")  # what cannot be meant starts no agent
    if foreground and (output or timeout_s or not wait) and not dry_run:
        raise UsageError("--foreground stays: it goes with neither -o, --timeout nor --no-wait")
    if dry_run and output == "name":
        raise UsageError("-o name prints the name of what is bound, and a dry run binds nothing")

    def request(namespace: str) -> BindRequest:
        vmi, slot = parse_target(target, namespace)
        return BindRequest(selector, vmi, slot, force=force, allow_keyboard=allow == "keyboard")

    async def plan(reached: Reached) -> int:
        return show(await reached.service.plan(request(reached.namespace)), output)

    async def stay(connection: Connection) -> int:
        return await keep_bound(connection.service, request(connection.namespace))

    async def bind(reached: Reached) -> int:
        wanted, status = request(reached.namespace), int(ExitCode.OK)
        if wait:
            redirection, status = await bind_and_wait(reached.service, wanted, timeout_s=timeout_s)
        else:
            redirection = await bind_and_go(reached.service, wanted)
        if status == ExitCode.OK:
            await tell_result(reached.service, redirection, output)
        return status

    if dry_run:
        # What is bound already counts. Where nothing is, no agent is started only to say so.
        needed = agent_is_needed()
        return run_with(service_in_agent(options) if needed else service_anywhere(options), plan)
    if foreground:
        return with_own_service(options, stay)
    return run_with(service_in_agent(options, verbosity=verbosity()), bind)
