"""How a redirection stands, and what has happened to it."""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.model import HandoverKind, RedirectionState, Route
from kubectl_vmredir.service.interface import (
    RedirectionChanged,
    RedirectionStatus,
    RedirectionView,
    StoryAdded,
    StoryEvent,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.model import RedirectionId, VmiRef
    from kubectl_vmredir.service.interface import Change, Handover, Numbers, Trouble

logger = logging.getLogger(__name__)

EVENTS_KEPT: Final = 100
"""Latest events of a redirection that are kept; older ones are in the log."""

COLD_DOUBT: Final = (
    "over the api route the cluster leads to the VM's new node only after the VM runs there"
)


class Story:
    """Tells what changes about one redirection, and keeps the latest of it.

    Args:
        status: As the redirection stands at first.
        publish: Told of each change.
        numbers: Returns the counters of the redirection.
        wall_clock: Returns seconds since the epoch.
    """

    def __init__(
        self,
        status: RedirectionStatus,
        publish: Callable[[Change], None],
        numbers: Callable[[], Numbers],
        wall_clock: Callable[[], float],
    ) -> None:
        self._status = status
        self._publish = publish
        self._numbers = numbers
        self._wall_clock = wall_clock
        self._events: deque[StoryEvent] = deque(maxlen=EVENTS_KEPT)

    @property
    def state(self) -> RedirectionState:
        """Where the redirection stands."""
        return self._status.state

    @property
    def handover(self) -> HandoverKind:
        """What to expect at the next migration."""
        return self._status.handover

    def view(self) -> RedirectionView:
        """Return how the redirection stands and its latest events."""
        return RedirectionView(self._counted(), tuple(self._events))

    def enter(
        self,
        state: RedirectionState,
        reason: str = "",
        *,
        trouble: Trouble | None = None,
        handover: Handover | None = None,
    ) -> bool:
        """Say where the redirection stands now, and why; nothing if that is known.

        Only another state, or a handover, is an event of the story: what a state waits for
        may change often.

        Returns:
            Whether it is an event of the story.
        """
        before = self._status
        self._change(dataclasses.replace(before, state=state, reason=reason, trouble=trouble))
        if told := state is not before.state or handover is not None:
            self._add(reason, handover)
        return told

    def note(self, cause: str) -> None:
        """Say what happened, without another state."""
        self._add(cause, None)

    def locate(self, node: str) -> None:
        """Say where the VM runs."""
        self._change(dataclasses.replace(self._status, node=node))

    def place(self, slot: str) -> None:
        """Say which slot it is."""
        self._change(dataclasses.replace(self._status, slot=slot))

    def try_out(self, ends: float | None) -> bool:
        """Say until when the device is on trial, or that it no longer is.

        Args:
            ends: Seconds since the epoch; None if nothing is on trial.

        Returns:
            Whether something was on trial before.
        """
        before = self._status.trial_ends is not None
        self._change(dataclasses.replace(self._status, trial_ends=ends))
        return before

    def _change(self, status: RedirectionStatus) -> None:
        if status != self._status:
            self._status = status
            self._publish(RedirectionChanged(self._counted()))

    def _counted(self) -> RedirectionStatus:
        return dataclasses.replace(self._status, numbers=self._numbers())

    def _add(self, cause: str, handover: Handover | None) -> None:
        logger.info("%s: %s: %s", self._status.id, self._status.state, cause)
        event = StoryEvent(self._wall_clock(), self._status.state, cause, handover)
        self._events.append(event)
        self._publish(StoryAdded(self._status.id, event))


def first_status(
    redirection_id: RedirectionId, device: str, description: str, vmi: VmiRef, slot: str
) -> RedirectionStatus:
    """Return how a redirection stands that was just wished for."""
    return RedirectionStatus(
        id=redirection_id,
        device=device,
        description=description,
        vmi=vmi,
        slot=slot,
        state=RedirectionState.HOLDING,
        route=Route.API,
        handover=HandoverKind.COLD,
        handover_doubt=COLD_DOUBT,
    )
