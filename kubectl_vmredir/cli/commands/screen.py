"""``kubectl vmredir`` without a command: the program on the screen."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from kubectl_vmredir.bootstrap import log_file, open_service
from kubectl_vmredir.cli.log import log_to
from kubectl_vmredir.cli.options import ClusterCommand
from kubectl_vmredir.errors import ExitCode, VmRedirError
from kubectl_vmredir.tui.app import run
from kubectl_vmredir.tui.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kubectl_vmredir.bootstrap import Options

logger = logging.getLogger(__name__)


@click.command("screen", cls=ClusterCommand, hidden=True)
@click.pass_obj
def command(options: Options) -> int:
    """Open the program on this terminal."""

    @asynccontextmanager
    async def open_session() -> AsyncIterator[Session]:
        async with open_service(options) as connection:
            yield Session(
                connection.service,
                connection.namespace,
                connection.context,
                connection.user,
                flags(options),
            )

    log_to(log_file())
    try:
        number = asyncio.run(run(open_session))
    except ExceptionGroup as bugs:
        logger.critical("the program ended because of a bug", exc_info=bugs)
        raise VmRedirError(
            "the program ended because of a bug in it", hint=f"It is described in {log_file()}"
        ) from None
    return ExitCode.OK if number is None else 128 + number


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
