"""``kubectl vmredir agent``: the background process that keeps redirections up."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.daemon import run_agent, the_only_agent
from kubectl_vmredir.agent.line import connect
from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.agent.server import IDLE_S
from kubectl_vmredir.bootstrap import LAB_VARIABLE, open_service
from kubectl_vmredir.cli.log import log_to, start_logging
from kubectl_vmredir.cli.output import API_VERSION, document, printable
from kubectl_vmredir.cli.run import unwrapped
from kubectl_vmredir.errors import AgentError, AgentGone, ExitCode
from kubectl_vmredir.model import to_json
from kubectl_vmredir.program import lasting_program

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from kubectl_vmredir.agent.access import Access
    from kubectl_vmredir.agent.control import AgentStatus
    from kubectl_vmredir.bootstrap import Connection
    from kubectl_vmredir.service.interface import ExitRisk

_READY: Final = b"\n"


@click.group("agent", short_help="The background process that keeps redirections up.")
def command() -> None:
    """Look after the background process that keeps redirections up.

    It is started by the commands that need it, and ends by itself when there is nothing to do.
    """


@command.command("run")
@click.option("--background", is_flag=True, help="Return when it is ready, and leave it running.")
@click.option("--keep", is_flag=True, help="Stay also when there is nothing to do.")
@click.option("-v", "--v", "verbosity", type=click.IntRange(0, 10), default=0, metavar="LEVEL")
def run(background: bool, keep: bool, verbosity: int) -> int:
    """Be the agent: until there is nothing to do, or until it is stopped."""
    places = Places.of_user()
    start_logging(verbosity)
    for name in ("KUBECONFIG", LAB_VARIABLE):  # each client says what it means
        os.environ.pop(name, None)
    idle_s = None if keep else IDLE_S
    if background:
        return _in_background(lambda ready: _be_agent(places, idle_s, ready, log=True))
    _be_agent(places, idle_s, lambda: click.echo("The agent is ready.", err=True), log=False)
    return ExitCode.OK


@command.command("status")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="How to print.")
def status(output: str | None) -> None:
    """Say whether the agent runs, and what it does."""

    async def ask() -> AgentStatus:
        async with connect(Places.of_user().socket) as (line, _):
            return await AgentClient(line).status()

    found = unwrapped(lambda: asyncio.run(ask()))
    if output:
        fields = to_json(found)
        assert isinstance(fields, dict), "a dataclass is an object"
        document({"apiVersion": API_VERSION, "kind": "AgentStatus", **fields}, output)
        return
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.started))
    click.echo(f"running     since {since}, process {found.pid}, version {found.version}")
    click.echo(f"keeps up    {found.redirections} redirections, {found.services} clusters or users")
    click.echo(f"clients     {found.clients}, this command included")
    for risk in found.closing or ():
        click.echo(f"closing     waits for {printable(risk.waits_for)}")


@command.command("stop")
@click.option("--force", is_flag=True, help="End it now, whatever that does to the VMs.")
def stop(force: bool) -> int:
    """End the agent; what is bound comes back with the next command that needs the agent."""

    async def ask() -> tuple[ExitRisk, ...]:
        async with connect(Places.of_user().socket) as (line, _):
            return await AgentClient(line).stop(force=force)

    try:
        risks = unwrapped(lambda: asyncio.run(ask()))
    except AgentGone:
        click.echo("No agent is running.", err=True)
        return ExitCode.OK
    for risk in risks:
        click.echo(
            f"{risk.vmi}, slot {risk.slot}: {risk.harm}; it waits for {printable(risk.waits_for)}",
            err=True,
        )
    if risks and not force:
        click.echo("The agent ends as soon as that harms nobody.", err=True)
        return ExitCode.FAILURE
    return ExitCode.OK


@command.command("logs")
def logs() -> None:
    """Print the log of the agent."""
    path = Places.of_user().log
    try:
        text = path.read_text(encoding="utf-8", errors="backslashreplace")
    except FileNotFoundError as exc:
        raise AgentError(f"there is no log yet: nothing at {path}") from exc
    for line in text.splitlines():
        click.echo(printable(line))


@command.command("unit")
def unit() -> None:
    """Print a systemd unit that starts the agent at login, for: systemctl --user."""
    words = " ".join(_quoted(word) for word in (*lasting_program(), "agent", "run", "--keep"))
    click.echo(_UNIT.format(command=words), nl=False)


_UNIT: Final = """\
# Save as ~/.config/systemd/user/kubectl-vmredir.service, then:
#   systemctl --user daemon-reload && systemctl --user enable --now kubectl-vmredir
[Unit]
Description=USB devices in KubeVirt VMs (kubectl vmredir)

[Service]
ExecStart={command}
Restart=on-failure
# The end of a migration may have to be waited for: closing a link in its course can crash the VM.
TimeoutStopSec=90

[Install]
WantedBy=default.target
"""


def _quoted(word: str) -> str:
    # systemd.service(5), "Command lines": % and $ are special besides what a shell quotes.
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if set(escaped) & set(" \t\\\"';") else escaped


def _be_agent(
    places: Places, idle_s: float | None, ready: Callable[[], None], *, log: bool
) -> None:
    with the_only_agent(places):
        if log:
            log_to(places.log)
        unwrapped(lambda: asyncio.run(run_agent(places, _open, idle_s=idle_s, ready=ready)))


def _open(access: Access) -> AbstractAsyncContextManager[Connection]:
    return open_service(access.options, access.environ, access.expected)


def _in_background(work: Callable[[Callable[[], None]], None]) -> int:
    """Do work in a process of its own, without a terminal; return when it says that it is ready.

    Raises:
        AgentError: If it fails before.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with open(reading, "rb") as pipe:
            said = pipe.read()
        if said != _READY:
            raise AgentError(said.decode(errors="replace") or "it ended at once")
        return ExitCode.OK
    os.close(reading)
    os.setsid()
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)

    def ready() -> None:
        os.write(writing, _READY)
        os.close(writing)

    try:
        work(ready)
    except AgentError as error:
        os.write(writing, str(error).encode())
        os._exit(ExitCode.FAILURE)
    os._exit(ExitCode.OK)
