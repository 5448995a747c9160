"""``kubectl vmredir events``: what has happened to what is bound."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from kubectl_vmredir.cli import candidates
from kubectl_vmredir.cli.commands.status import STATE_WIDTH
from kubectl_vmredir.cli.following import untold
from kubectl_vmredir.cli.options import ClusterCommand, output_flags, verbosity
from kubectl_vmredir.cli.output import Column, Listing
from kubectl_vmredir.cli.reaching import adopted, agent_if_needed, agent_running
from kubectl_vmredir.cli.run import run_with
from kubectl_vmredir.cli.targets import Bound, is_within, meant, target, within
from kubectl_vmredir.errors import AgentGone, VmRedirError
from kubectl_vmredir.service.interface import (
    RedirectionChanged,
    Snapshot,
    StoryAdded,
    StoryEvent,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from kubectl_vmredir.agent.client import AgentClient
    from kubectl_vmredir.agent.control import Overview, ServiceId, ServiceOverview
    from kubectl_vmredir.bootstrap import Options
    from kubectl_vmredir.cli.targets import BoundKey
    from kubectl_vmredir.model import RedirectionId, VmiRef
    from kubectl_vmredir.service.interface import RedirectionStatus


@dataclass(frozen=True, slots=True)
class EventRow:
    """Something that happened to a redirection.

    Attributes:
        redirection: Names it.
        context: Name of the kubeconfig's context; empty if there is none.
        device: Selector of its device.
        vmi: Its VM.
        slot: Name of its slot.
        event: What happened.
    """

    redirection: RedirectionId
    context: str
    device: str
    vmi: VmiRef
    slot: str
    event: StoryEvent

    @classmethod
    def of(cls, context: str, status: RedirectionStatus, event: StoryEvent) -> EventRow:
        """Return the row of an event."""
        return cls(status.id, context, status.device, status.vmi, status.slot, event)

    @property
    def clock(self) -> str:
        """When it was, by the clock of this machine."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.event.time))

    @property
    def handover(self) -> str:
        """What kind of handover it was the end of, and between which nodes."""
        if (over := self.event.handover) is None:
            return ""
        return f"{over.kind} {over.source_node or '?'}->{over.target_node or '?'}"

    @property
    def gap(self) -> str:
        """How long the handover took."""
        over = self.event.handover
        return "" if over is None else f"{over.link_gap_ms:.0f}ms"


EVENTS: Final[Listing[EventRow]] = Listing(
    kind="EventList",
    columns=(
        Column("TIME", lambda row: row.clock),
        Column("ID", lambda row: row.redirection),
        Column("DEVICE", lambda row: row.device, wide=True),
        Column("NAMESPACE", lambda row: row.vmi.namespace, wide=True),
        Column("SLOT", lambda row: target(row.vmi, row.slot), wide=True),
        Column("CONTEXT", lambda row: row.context, wide=True),
        Column("STATE", lambda row: row.event.state, width=STATE_WIDTH),
        Column("HANDOVER", lambda row: row.handover),
        Column("GAP", lambda row: row.gap),
        Column("CAUSE", lambda row: row.event.cause),
    ),
    name=lambda row: row.redirection,
    empty="No events.",
)


@click.command(cls=ClusterCommand, short_help="Tell what has happened to what is bound.")
@click.argument("wanted", metavar="[TARGET]", required=False, shell_complete=candidates.bound)
@click.option("-w", "--watch", is_flag=True, help="Go on and print what happens.")
@output_flags
@click.pass_obj
def command(
    options: Options, *, wanted: str | None, watch: bool, output: str | None, no_headers: bool
) -> None:
    """Tell what has happened to what is bound: every state, why, and each handover.

    TARGET is ID, VMI/SLOT, VMI or DEVICE. Of each redirection the latest hundred events are
    kept, since the agent began with it; older ones are in its log.
    """

    async def show(client: AgentClient | None) -> None:
        bound: Sequence[Bound] = [] if client is None else within(await client.overview(), options)
        if wanted is not None:
            bound = await meant(wanted, bound)
        rows: list[EventRow] = []
        for service in {one.service.id: one.service for one in bound}.values():
            if service.trouble is None:
                only = {one.status.id for one in bound if one.service.id == service.id}
                rows += await _story(service, only)
        rows.sort(key=lambda row: row.event.time)
        EVENTS.print(rows, output, headers=not no_headers)

    async def keep_showing(client: AgentClient) -> None:
        only = None
        if wanted is not None:
            found = await meant(wanted, within(await client.overview(), options))
            only = {one.key for one in found}
        watch = _Watch(
            lambda one: is_within(one, options) and (only is None or one.key in only),
            EVENTS.follow(output, headers=not no_headers),
        )
        async with client.watch_overview() as overviews:
            await watch.run(overviews)

    if watch:  # who watches wants to see what comes, and that comes from an agent
        run_with(agent_running(verbosity=verbosity()), keep_showing)
    else:
        run_with(agent_if_needed(verbosity=verbosity()), show)


async def _story(service: ServiceOverview, only: Collection[RedirectionId]) -> list[EventRow]:
    """Return what has happened to redirections of one service."""
    async with adopted(service.id) as client:
        views = (await client.snapshot()).redirections
    return [
        EventRow.of(service.context, view.status, event)
        for view in views
        if view.status.id in only
        for event in view.story
    ]


class _Watch:
    """Shows what happens, in all services of the agent.

    Args:
        counts: Whether a redirection is one of those that are meant.
        show: Prints events.
    """

    def __init__(
        self, counts: Callable[[Bound], bool], show: Callable[[Sequence[EventRow]], None]
    ) -> None:
        self._counts = counts
        self._show = show
        self._followed: set[ServiceId] = set()
        self._told: dict[BoundKey, StoryEvent] = {}

    async def run(self, overviews: AsyncIterator[Overview]) -> None:
        """Follow each service that there is, from when it is there.

        Raises:
            AgentGone: When there is no more to hear.
        """
        async with asyncio.TaskGroup() as group:
            async for overview in overviews:
                for service in overview.services:
                    usable = service.redirections and service.trouble is None
                    if usable and service.id not in self._followed:
                        self._followed.add(service.id)
                        group.create_task(self._follow(service), name=f"follow-{service.id}")
            raise AgentGone("the agent has ended")

    async def _follow(self, service: ServiceOverview) -> None:
        statuses: dict[RedirectionId, RedirectionStatus] = {}
        # One that ends is in the overview again when it is back, and is followed again.
        with contextlib.suppress(VmRedirError):
            async with adopted(service.id) as client, client.subscribe() as changes:
                async for change in changes:
                    match change:
                        case Snapshot(redirections=views):
                            statuses = {view.status.id: view.status for view in views}
                            for view in views:
                                self._tell(service, view.status, view.story)
                        case RedirectionChanged(status=status):
                            statuses[status.id] = status
                        case StoryAdded(id=found, event=event) if found in statuses:
                            self._tell(service, statuses[found], [event])
                        case _:
                            pass
        self._followed.discard(service.id)

    def _tell(
        self, service: ServiceOverview, status: RedirectionStatus, story: Sequence[StoryEvent]
    ) -> None:
        bound = Bound(service, status)
        if self._counts(bound):
            events = untold(story, self._told.get(bound.key))
            self._show([EventRow.of(service.context, status, event) for event in events])
            if events:
                self._told[bound.key] = events[-1]
