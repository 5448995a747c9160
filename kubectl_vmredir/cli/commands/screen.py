"""``kubectl vmredir`` without a command: the program on the screen."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.bootstrap import account, context_names, examine_usb, log_file, open_service
from kubectl_vmredir.cli.log import log_to
from kubectl_vmredir.cli.options import ClusterCommand
from kubectl_vmredir.errors import ExitCode, VmRedirError
from kubectl_vmredir.tui.app import run
from kubectl_vmredir.tui.session import Entrance, Session

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator, Callable, Coroutine

    from kubectl_vmredir.bootstrap import Options

logger = logging.getLogger(__name__)


@click.command("screen", cls=ClusterCommand, hidden=True)
@click.option("--read-only", is_flag=True, help="Only look, change nothing.")
@click.option("--foreground", is_flag=True, help="No agent: devices come back at the end.")
@click.pass_obj
def command(options: Options, read_only: bool, foreground: bool) -> int:
    """Open the program on this terminal."""
    entrance = Entrance(
        partial(_here if foreground else _in_agent, options),
        contexts=partial(context_names, options),
        examine=examine_usb,
        log=log_file() if foreground else Places.of_user().log,
    )
    return show(lambda: run(entrance, read_only=read_only))


def show(program: Callable[[], Coroutine[Any, Any, signal.Signals | None]]) -> int:
    """Run the program until it ends; return the exit status.

    Args:
        program: Returns the signal that ended it, if one did.

    Raises:
        VmRedirError: If there is a bug, which is then in the log.
    """
    log_to(log_file())
    try:
        number = asyncio.run(program())
    except ExceptionGroup as bugs:
        logger.critical("the program ended because of a bug", exc_info=bugs)
        raise VmRedirError(
            "the program ended because of a bug in it", hint=f"It is described in {log_file()}"
        ) from None
    return ExitCode.OK if number is None else 128 + number


@asynccontextmanager
async def _in_agent(options: Options, context: str | None) -> AsyncIterator[Session]:
    """Open a session with the agent, which keeps what is redirected when the session is left."""
    from kubectl_vmredir.cli.reaching import service_in_agent  # late: it is not needed to paint

    options = replace(options, context=context or options.context)
    whom = account(options)
    async with service_in_agent(options) as reached:
        yield Session(
            reached.service, reached.namespace, whom.context, whom.user, flags(options),
            lasting=True,
        )  # fmt: skip


@asynccontextmanager
async def _here(options: Options, context: str | None) -> AsyncIterator[Session]:
    """Open a session with a service in this process."""
    options = replace(options, context=context or options.context)
    async with open_service(options) as found:
        yield Session(
            found.service, found.namespace, found.context, found.user, flags(options)
        )  # fmt: skip


def flags(options: Options) -> tuple[str, ...]:
    """Return the flags that a command needs to mean the same; never a secret."""
    named = {
        "--kubeconfig": options.kubeconfig,
        "--context": options.context,
        "--cluster": options.cluster,
        "--user": options.user,
        "--server": options.server,
        "--as": options.impersonate_user,
        "--as-uid": options.impersonate_uid,
    }
    switches = {
        "--insecure-skip-tls-verify": options.insecure,
        "--lab": options.lab,
        "--virtual": options.virtual,
    }
    return (
        *(word for flag, value in named.items() if value is not None for word in (flag, value)),
        *(word for group in options.impersonate_groups for word in ("--as-group", group)),
        *(flag for flag, given in switches.items() if given),
    )
