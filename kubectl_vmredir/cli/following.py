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
    from collections.abc import AsyncIterator, Callable, Sequence

    from kubectl_vmredir.model import RedirectionId
    from kubectl_vmredir.service.interface import Change, RedirectionStatus, StoryEvent


class Follower:
    """Follows a redirection from its beginning to its end.

    Attributes:
        trial_begun: Set when the only keyboard or pointer is in the VM on trial.
        trial_over: Set when that was confirmed, or is undone.

    Args:
        wanted: The redirection.
        told: What has been told of its story before.
        tell: Hears a line of the story.
        until_connected: Whether that the device has come to stay in the VM is the end of it.
    """

    def __init__(
        self,
        wanted: RedirectionId,
        *,
        told: StoryEvent | None = None,
        tell: Callable[[str], None] = say,
        until_connected: bool = False,
    ) -> None:
        self.trial_begun = asyncio.Event()
        self.trial_over = asyncio.Event()
        self._wanted = wanted
        self._tell_line = tell
        self._until_connected = until_connected
        self._latest: RedirectionStatus | None = None
        self._told = told
        self._was_connected = False

    @property
    def latest(self) -> RedirectionStatus | None:
        """How it stands, as far as it was heard; None if nothing was."""
        return self._latest

    @property
    def blocked(self) -> bool:
        """Whether a person must act."""
        return self._latest is not None and self._latest.state is RedirectionState.BLOCKED

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
                        for event in untold(view.story, self._told):
                            self._tell(event)
                        return self._look(view.status)
                return None if self._told is None else ExitCode.FAILURE
            case _:
                pass
        return None

    def _tell(self, event: StoryEvent) -> None:
        self._told = event
        self._tell_line(_sentence(event))

    def _look(self, status: RedirectionStatus) -> int | None:
        self._latest = status
        if status.trial_ends is not None:
            self.trial_begun.set()
        elif self.trial_begun.is_set():
            self.trial_over.set()
        self._was_connected |= status.state is RedirectionState.CONNECTED
        if status.state is RedirectionState.BLOCKED and status.trouble is not None:
            tell_trouble(status.trouble)
            if not self._was_connected:
                return status.trouble.exit_code
        stays = status.state is RedirectionState.CONNECTED and status.trial_ends is None
        return ExitCode.OK if stays and self._until_connected else None


def untold(story: Sequence[StoryEvent], told: StoryEvent | None) -> Sequence[StoryEvent]:
    """Return what of a story comes after the event that was told last; all if that is not in it."""
    return story[story.index(told) + 1 :] if told in story else story


def _sentence(event: StoryEvent) -> str:
    text = f"{event.state}: {event.cause}" if event.cause else str(event.state)
    if (handover := event.handover) is not None:
        text += (
            f" ({handover.kind} handover, {handover.source_node} to {handover.target_node}, "
            f"link gap {handover.link_gap_ms:.0f} ms)"
        )
    return f"{time.strftime('%H:%M:%S', time.localtime(event.time))} {text}"
