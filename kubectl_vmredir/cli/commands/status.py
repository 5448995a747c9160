"""``kubectl vmredir status``: all that is bound, wherever it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.cli import candidates
from kubectl_vmredir.cli.diagnostics import tell_trouble
from kubectl_vmredir.cli.options import ClusterCommand, output_flags, verbosity
from kubectl_vmredir.cli.output import Column, Listing
from kubectl_vmredir.cli.reaching import agent_if_needed, agent_running
from kubectl_vmredir.cli.run import run_with
from kubectl_vmredir.cli.targets import NOTHING, meant, target, within
from kubectl_vmredir.errors import AgentGone
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.interface import Numbers, RedirectionStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from kubectl_vmredir.agent.client import AgentClient
    from kubectl_vmredir.agent.control import Overview
    from kubectl_vmredir.bootstrap import Options
    from kubectl_vmredir.cli.targets import Bound, BoundKey


@dataclass(frozen=True, slots=True)
class RedirectionRow:
    """A redirection, and in which cluster it is.

    Attributes:
        context: Name of the kubeconfig's context; empty if there is none.
        cluster: Address of the API server; empty while it cannot be known.
        user: Name of the user, as far as the kubeconfig knows it.
        status: How it stands.
    """

    context: str
    cluster: str
    user: str
    status: RedirectionStatus

    @classmethod
    def of(cls, bound: Bound) -> RedirectionRow:
        """Return the row of a redirection."""
        service = bound.service
        return cls(service.context, service.cluster, service.user, bound.status)

    @property
    def ended(self) -> RedirectionRow:
        """The row of a redirection that is no more."""
        return replace(
            self,
            status=replace(
                self.status, state=RedirectionState.STOPPED, reason="it is no more", trouble=None
            ),
        )

    def looks_as(self, other: RedirectionRow | None) -> bool:
        """Return whether it is the same but for counters, which change all the time."""
        return other is not None and self._without_counters() == other._without_counters()

    def _without_counters(self) -> RedirectionRow:
        return replace(self, status=replace(self.status, numbers=Numbers()))

    @property
    def outage(self) -> str:
        """How long the last time without a link was."""
        outage_ms = self.status.numbers.last_outage_ms
        return "" if outage_ms is None else f"{outage_ms:.0f}ms"


STATE_WIDTH: Final = max(map(len, RedirectionState))

REDIRECTIONS: Final[Listing[RedirectionRow]] = Listing(
    kind="RedirectionList",
    columns=(
        Column("ID", lambda row: row.status.id),
        Column("DEVICE", lambda row: row.status.device),
        Column("NAMESPACE", lambda row: row.status.vmi.namespace, wide=True),
        Column("SLOT", lambda row: target(row.status.vmi, row.status.slot)),
        Column("STATE", lambda row: row.status.state, width=STATE_WIDTH),
        Column("CONTEXT", lambda row: row.context),
        Column("NODE", lambda row: row.status.node, wide=True),
        Column("HANDOVER", lambda row: row.status.handover, wide=True),
        Column("MIGRATIONS", lambda row: f"{row.status.numbers.migrations_survived}", wide=True),
        Column("OUTAGE", lambda row: row.outage, wide=True),
        Column("NAME", lambda row: row.status.description, wide=True),
        Column("USER", lambda row: row.user, wide=True),
        Column("CLUSTER", lambda row: row.cluster, wide=True),
        Column("REASON", lambda row: row.status.reason),
    ),
    name=lambda row: row.status.id,
    empty=NOTHING,
)


@click.command(cls=ClusterCommand, short_help="Show what is bound, and how it stands.")
@click.argument("wanted", metavar="[TARGET]", required=False, shell_complete=candidates.bound)
@click.option("-w", "--watch", is_flag=True, help="Go on and print what changes.")
@output_flags
@click.pass_obj
def command(
    options: Options, *, wanted: str | None, watch: bool, output: str | None, no_headers: bool
) -> None:
    """Show what is bound, in all clusters, and how it stands.

    TARGET is ID, VMI/SLOT, VMI or DEVICE.
    """

    async def show(client: AgentClient | None) -> None:
        bound: Sequence[Bound] = [] if client is None else within(await client.overview(), options)
        if wanted is not None:
            bound = await meant(wanted, bound)
        rows = [RedirectionRow.of(one) for one in bound]
        REDIRECTIONS.print(rows, output, headers=not no_headers)
        if output in (None, "wide"):
            _tell_troubles(rows)

    async def keep_showing(client: AgentClient) -> None:
        only = None
        if wanted is not None:
            found = await meant(wanted, within(await client.overview(), options))
            only = {one.key for one in found}
        async with client.watch_overview() as overviews:
            await _follow(
                overviews,
                lambda one: only is None or one.key in only,
                options,
                REDIRECTIONS.follow(output, headers=not no_headers),
            )

    if watch:  # who watches wants to see what comes, and that comes from an agent
        run_with(agent_running(verbosity=verbosity()), keep_showing)
    else:
        run_with(agent_if_needed(verbosity=verbosity()), show)


def _tell_troubles(rows: Sequence[RedirectionRow]) -> None:
    """Say what to do about those that a person must act for; the table has no room for it."""
    blocked = [row.status for row in rows if row.status.state is RedirectionState.BLOCKED]
    for trouble in dict.fromkeys(status.trouble for status in blocked):
        if trouble is not None:
            tell_trouble(trouble)


async def _follow(
    overviews: AsyncIterator[Overview],
    counts: Callable[[Bound], bool],
    options: Options,
    show: Callable[[Sequence[RedirectionRow]], None],
) -> None:
    """Show all redirections, and then each one again when something of it has changed.

    Raises:
        AgentGone: When there is no more to hear.
    """
    shown: dict[BoundKey, RedirectionRow] = {}
    async for overview in overviews:
        bound = [one for one in within(overview, options) if counts(one)]
        rows = {one.key: RedirectionRow.of(one) for one in bound}
        gone = [row.ended for key, row in shown.items() if key not in rows]
        show([*(row for key, row in rows.items() if not row.looks_as(shown.get(key))), *gone])
        shown = rows
    raise AgentGone("the agent has ended")
