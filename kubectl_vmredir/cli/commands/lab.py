"""``kubectl vmredir lab``: an embedded cluster for demos, tests and bug reports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.bootstrap import LAB_VARIABLE, lab_folder, open_lab
from kubectl_vmredir.cli.diagnostics import say
from kubectl_vmredir.cli.reaching import running_agent
from kubectl_vmredir.cli.run import SIGNALS, until_signal, unwrapped
from kubectl_vmredir.errors import AgentError, ExitCode, UsageError
from kubectl_vmredir.model import VmiRef

if TYPE_CHECKING:
    from kubectl_vmredir.lab.cluster import Lab

VMS: Final = {
    VmiRef("demo", "fedora"): ("flash", "token"),
    VmiRef("demo", "win11"): ("smartcard",),
    VmiRef("demo", "plain"): (),
}
"""VMs of a new lab, and the names of their slots; none has none."""


@click.group("lab", short_help="Run an embedded cluster with virtual devices.")
def command() -> None:
    """Run an embedded KubeVirt-like cluster with virtual USB devices, on this machine only."""


@command.command("up")
@click.option(
    "--backend",
    type=click.Choice(["auto", "sim", "qemu"]),
    default="auto",
    show_default=True,
    help="What the guests are: simulated, or Linux in QEMU.",
)
@click.option("--nodes", type=click.IntRange(1, 9), default=2, show_default=True, metavar="N")
@click.option("--split", is_flag=True, help="Each component in a process of its own.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the lab lives; a lab that was there is gone on with.",
)
@click.argument("run", nargs=-1, metavar="[COMMAND...]")
def up(backend: str, nodes: int, split: bool, folder: Path | None, run: tuple[str, ...]) -> int:
    """Start a lab, and a shell that talks to it; the lab ends with the shell.

    With COMMAND, run that instead of a shell. Without either, as in a script, stay until a
    signal.
    """
    if LAB_VARIABLE in os.environ:
        raise UsageError("this is the shell of a lab already", hint="Leave it first: exit")
    where = (folder or lab_folder()).absolute()
    return unwrapped(
        lambda: until_signal(
            _up(open_lab(where, backend=backend, nodes=nodes, split=split), where, run)
        )
    )


async def _up(lab: Lab, folder: Path, run: tuple[str, ...]) -> int:
    async with lab:
        for ref, slots in VMS.items():
            if lab.vmi(ref) is None:
                await lab.create_vm(ref, slots=slots, passthrough=bool(slots))
        for ref in VMS:
            await lab.wait_running(ref)
        click.echo(
            f"The lab is up, with {lab.backend} guests: {', '.join(map(str, VMS))}; "
            f"on {', '.join(lab.node_names)}.\n"
            f"  export KUBECONFIG={lab.kubeconfig} {LAB_VARIABLE}={folder}\n"
            "Try: kubectl vmredir devices, kubectl vmredir slots,\n"
            "     kubectl vmredir bind 1209:0001:FLASH001 fedora, kubectl vmredir status -w\n"
            "Contexts: alice may edit (as you do now), admin may migrate.",
            err=True,
        )
        if not run and not sys.stdin.isatty():
            return await _until_signal()
        environment = os.environ | {"KUBECONFIG": str(lab.kubeconfig), LAB_VARIABLE: str(folder)}
        status = await _run(run or (os.environ.get("SHELL", "/bin/sh"),), environment)
        await _tell_what_stays(lab)
        return status


async def _tell_what_stays(lab: Lab) -> None:
    """Say how to take back what was bound in the lab: it stays wanted when the lab ends."""
    server = lab.endpoint(lab.kubeconfig).server
    with contextlib.suppress(AgentError):  # one that goes away just now has said it elsewhere
        async with AsyncExitStack() as stack:
            if (agent := await running_agent(stack)) is not None:
                services = (await agent.overview()).services
                kept = sum(len(one.redirections) for one in services if one.cluster == server)
                if kept:
                    say(
                        f"{kept} redirections wait for this lab to come back. "
                        "To see them: kubectl vmredir status"
                    )


async def _until_signal() -> int:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()
    return ExitCode.OK


async def _run(arguments: tuple[str, ...], environment: dict[str, str]) -> int:
    """Run a command; the lab ends when it has ended, and not before."""
    loop = asyncio.get_running_loop()
    hung_up = asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # ctrl-c is for the command in front
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, hung_up.set)
    try:
        process = await asyncio.create_subprocess_exec(*arguments, env=environment)
    except OSError as exc:
        raise UsageError(f"cannot run {arguments[0]!r}: {exc.strerror}") from exc
    async with asyncio.TaskGroup() as group:
        ended = group.create_task(process.wait(), name="command")
        hangs_up = group.create_task(hung_up.wait(), name="hang-up")
        await asyncio.wait([ended, hangs_up], return_when=asyncio.FIRST_COMPLETED)
        if hangs_up.done():
            with contextlib.suppress(ProcessLookupError):  # it heard of it from the terminal
                process.send_signal(signal.SIGHUP)
        hangs_up.cancel()
        status = await ended
    return status if status >= 0 else 128 - status
