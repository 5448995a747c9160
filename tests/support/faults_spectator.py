"""Somebody who follows the redirections of one service from the first to the last change."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from kubectl_vmredir.model import RedirectionId, RedirectionState
from kubectl_vmredir.service.interface import (
    Change,
    RedirectionChanged,
    RedirectionEnded,
    RedirectionService,
    RedirectionStatus,
    Snapshot,
    StoryAdded,
)


class Spectator:
    """Knows how they stand, and what they have been through.

    Attributes:
        states: How often each state was entered.
        troubles: How often each kind of error has blocked one.
        handovers: How often one went with its VM to another node.
    """

    def __init__(self) -> None:
        self.states: Counter[RedirectionState] = Counter()
        self.troubles: Counter[str] = Counter()
        self.handovers = 0
        self._statuses: dict[RedirectionId, RedirectionStatus] = {}
        self._changed = asyncio.Event()

    @property
    def statuses(self) -> Sequence[RedirectionStatus]:
        """How all stand now."""
        return list(self._statuses.values())

    async def follow(self, service: RedirectionService) -> None:
        """Listen, until cancelled."""
        async with service.subscribe() as changes:
            async for change in changes:
                self._hear(change)
                self._changed.set()

    async def until(
        self, condition: Callable[[Sequence[RedirectionStatus]], bool], limit_s: float
    ) -> None:
        """Wait until something is so for all of them.

        Raises:
            TimeoutError: If it is not in time.
        """
        async with asyncio.timeout(limit_s):
            while not condition(self.statuses):
                self._changed.clear()
                await self._changed.wait()

    def _hear(self, change: Change) -> None:
        match change:
            case Snapshot(redirections):
                there = {view.status.id for view in redirections}
                for gone in self._statuses.keys() - there:
                    del self._statuses[gone]
                for view in redirections:
                    self._stands(view.status)
            case RedirectionChanged(status):
                self._stands(status)
            case StoryAdded(_, event):
                self.handovers += event.handover is not None
            case RedirectionEnded(redirection_id):
                self._statuses.pop(redirection_id, None)
            case _:
                pass

    def _stands(self, status: RedirectionStatus) -> None:
        before = self._statuses.get(status.id)
        self._statuses[status.id] = status
        if before is None or before.state is not status.state:
            self.states[status.state] += 1
            if status.state is RedirectionState.BLOCKED and status.trouble is not None:
                self.troubles[status.trouble.kind] += 1
