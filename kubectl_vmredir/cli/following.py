"""Tells the story of one redirection on stderr."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from kubectl_vmredir.cli.diagnostics import say, tell_trouble
from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.interface import (
    RedirectionChanged,
    RedirectionEnded,
    Snapshot,
    StoryAdded,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from kubectl_vmredir.model import RedirectionId
    from kubectl_vmredir.service.interface import Change, RedirectionStatus, StoryEvent


class Follower:
    """Follows a redirection from its beginning to its end.

    Attributes:
        trial_begun: Set when the only keyboard or pointer is in the VM on trial.
        trial_over: Set when that was confirmed, or is undone.

    Args:
        wanted: The redirection.
    """

    def __init__(self, wanted: RedirectionId) -> None:
        self.trial_begun = asyncio.Event()
        self.trial_over = asyncio.Event()
        self._wanted = wanted
        self._told: StoryEvent | None = None
        self._was_connected = False

    async def follow(self, changes: AsyncIterator[Change]) -> int:
        """Tell what happens; return when the redirection, or the service, ends or cannot begin.

        Returns:
            The exit status: that of the trouble if the device never got into the VM because of
            something that a person must cure, failure if the redirection is no more.
        """
        async for change in changes:
            if (status := self._take(change)) is not None:
                return status
        return ExitCode.OK

    def _take(self, change: Change) -> int | None:
        match change:
            case StoryAdded(id=self._wanted, event=event):
                self._tell(event)
            case RedirectionChanged(status=status) if status.id == self._wanted:
                return self._look(status)
            case RedirectionEnded(id=self._wanted):
                return ExitCode.FAILURE
            case Snapshot(redirections=views):
                # The first that is heard; later on, too much has happened to hear of it all.
                for view in views:
                    if view.status.id == self._wanted:
                        for event in self._untold(view.story):
                            self._tell(event)
                        return self._look(view.status)
                return None if self._told is None else ExitCode.FAILURE
            case _:
                pass
        return None

    def _untold(self, story: Sequence[StoryEvent]) -> Sequence[StoryEvent]:
        return story[story.index(self._told) + 1 :] if self._told in story else story

    def _tell(self, event: StoryEvent) -> None:
        self._told = event
        say(_sentence(event))

    def _look(self, status: RedirectionStatus) -> int | None:
        if status.trial_ends is not None:
            self.trial_begun.set()
        elif self.trial_begun.is_set():
            self.trial_over.set()
        self._was_connected |= status.state is RedirectionState.CONNECTED
        if status.state is RedirectionState.BLOCKED and status.trouble is not None:
            tell_trouble(status.trouble)
            if not self._was_connected:
                return status.trouble.exit_code
        return None


def _sentence(event: StoryEvent) -> str:
    text = f"{event.state}: {event.cause}" if event.cause else str(event.state)
    if (handover := event.handover) is not None:
        text += (
            f" ({handover.kind} handover, {handover.source_node} to {handover.target_node}, "
            f"link gap {handover.link_gap_ms:.0f} ms)"
        )
    return f"{time.strftime('%H:%M:%S', time.localtime(event.time))} {text}"
