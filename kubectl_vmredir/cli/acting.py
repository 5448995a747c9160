"""Commands that do something with what is bound: which redirections, how long it is waited for."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import click

from kubectl_vmredir.cli import candidates
from kubectl_vmredir.cli.diagnostics import say, tell_error, tell_progress
from kubectl_vmredir.cli.options import timeout_flag, verbosity
from kubectl_vmredir.cli.output import printable
from kubectl_vmredir.cli.reaching import adopted, agent_if_needed
from kubectl_vmredir.cli.run import run_with
from kubectl_vmredir.cli.targets import NOTHING, Bound, everything, place, the_one, within
from kubectl_vmredir.errors import ExitCode, UsageError, VmRedirError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Any

    from kubectl_vmredir.agent.client import AgentClient
    from kubectl_vmredir.bootstrap import Options
    from kubectl_vmredir.cli.targets import BoundKey
    from kubectl_vmredir.model import RedirectionId


@dataclass(frozen=True, slots=True)
class Verb:
    """What is done with a redirection.

    Attributes:
        past: What has been done to it then.
        later: What happens if it is not waited for any more.
        act: Does it; returns when it is done.
    """

    past: str
    later: str
    act: Callable[[AgentClient, Bound], Awaitable[None]]


def in_service(
    method: Callable[[AgentClient, RedirectionId], Awaitable[None]],
) -> Callable[[AgentClient, Bound], Awaitable[None]]:
    """Return what calls a method of the service which keeps a redirection up."""

    async def act(_client: AgentClient, bound: Bound) -> None:
        async with adopted(bound.service.id) as service:
            await method(service, bound.status.id)

    return act


def target_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``TARGET``, ``--all`` and ``--timeout``."""
    command = timeout_flag(command)
    command = click.option("--all", "every", is_flag=True, help="All that is bound.")(command)
    return click.argument(
        "target", metavar="TARGET", required=False, shell_complete=candidates.bound
    )(command)


def act_on(
    options: Options, target: str | None, *, every: bool, timeout_s: float | None, verb: Verb
) -> int:
    """Do something with the redirections that are meant, and wait until it is done.

    Returns:
        The exit status: that of the first that it cannot be done with.

    Raises:
        VmRedirError: If it is not known with which, or it is not done in time.
    """
    if every == (target is not None):
        raise UsageError(
            "expected either a TARGET or --all", hint="See what there is: kubectl vmredir status"
        )

    async def work(client: AgentClient | None) -> int:
        bound = [] if client is None else within(await client.overview(), options)
        if target is not None:
            bound = [await the_one(target, bound)]
        if client is None or not bound:
            say(NOTHING)
            return ExitCode.OK
        return await _Acting(client, bound, verb).run(timeout_s)

    return run_with(agent_if_needed(verbosity=verbosity()), work)


class _Acting:
    """Does something with redirections, all at once, and tells what it waits for.

    Args:
        client: Of the agent.
        bound: The redirections, at least one.
        verb: What is done.
    """

    def __init__(self, client: AgentClient, bound: Sequence[Bound], verb: Verb) -> None:
        self._client = client
        self._open = {one.key: one for one in bound}
        self._verb = verb
        self._failures: list[VmRedirError] = []

    async def run(self, timeout_s: float | None) -> int:
        """Do it; return the exit status.

        Args:
            timeout_s: How long to wait, in seconds; None for as long as it takes.

        Raises:
            VmRedirError: If it is not done in time.
        """
        try:
            async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
                acts = [
                    group.create_task(self._act(one), name=f"act-{one.status.id}")
                    for one in self._open.values()
                ]
                telling = group.create_task(self._tell(), name="tell")
                await asyncio.wait(acts)
                telling.cancel()
        except TimeoutError:
            self._late(timeout_s)
        except asyncio.CancelledError:
            say(f"not waiting any more. {self._verb.later}")
            raise
        return self._failures[0].exit_code if self._failures else ExitCode.OK

    async def _act(self, bound: Bound) -> None:
        try:
            await self._verb.act(self._client, bound)
        except VmRedirError as error:
            tell_error(str(error), error.hint)
            self._failures.append(error)
        else:
            status = bound.status
            click.echo(
                printable(
                    f"{status.id} {self._verb.past}: {status.device}, "
                    f"{place(status.vmi, status.slot)}"
                )
            )
        del self._open[bound.key]

    async def _tell(self) -> None:
        """Tell what those that are not done yet wait for."""
        told: dict[BoundKey, str] = {}
        # If there is no more to hear, who acts says why.
        with contextlib.suppress(VmRedirError):
            async with self._client.watch_overview() as overviews:
                async for overview in overviews:
                    for now in everything(overview):
                        if now.key in self._open:
                            self._open[now.key] = now
                            status = now.status
                            if told.get(now.key, "") != status.reason:
                                told[now.key] = status.reason
                                tell_progress(f"{status.id} {status.state}: {status.reason}")

    def _late(self, timeout_s: float | None) -> NoReturn:
        waits = "; ".join(f"{one.status.id}: {one.status.reason}" for one in self._open.values())
        raise VmRedirError(
            f"not {self._verb.past} after {timeout_s:g} s: {waits}", hint=self._verb.later
        ) from None
