"""What redirections go through, as a user interface sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from kubectl_vmredir.model import RedirectionId, RedirectionState
from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.interface import (
    Change,
    Numbers,
    NumbersSampled,
    RedirectionChanged,
    RedirectionStatus,
    Snapshot,
    StoryAdded,
)

UP: Final = frozenset({RedirectionState.CONNECTED, RedirectionState.MIGRATING})
"""States in which the VM has the device."""

_LINKED: Final = UP | {RedirectionState.STALLED}


@dataclass(frozen=True, slots=True)
class Sight:
    """How a redirection looked, from some time on.

    Attributes:
        at: Seconds since its course began.
        state: Its state.
        why: What was said of it; may hold untrusted text.
    """

    at: float
    state: RedirectionState
    why: str


@dataclass(slots=True)
class Course:
    """What one redirection has gone through since a certain time.

    Attributes:
        began: That time, on the monotonic clock; as all others.
        status: As it is now.
        sights: How it looked, whenever it looked otherwise than before.
        up_since: Since when it is up; None while it is not.
        used_since: When the guest first asked the device for something since then.
        link_gap_ms: Of the latest handover.
    """

    began: float
    status: RedirectionStatus
    sights: list[Sight] = field(default_factory=list)
    up_since: float | None = None
    used_since: float | None = None
    link_gap_ms: float | None = None
    _idle_bytes: int = 0

    @property
    def hit(self) -> bool:
        """Whether it was not up all the time."""
        return any(sight.state not in UP for sight in self.sights)

    @property
    def relinked(self) -> bool:
        """Whether its link had to be dialed anew."""
        return any(sight.state not in _LINKED for sight in self.sights)

    @property
    def back(self) -> bool:
        """Whether it is up, and of use: a device that was plugged in anew was asked for things."""
        if self.up_since is None:
            return False
        return self.used_since is not None or not self.relinked

    def look(self, status: RedirectionStatus) -> None:
        """Take in how it is now."""
        now = time.monotonic()
        was_up, self.status = self.up_since is not None, status
        why = status.trouble.message if status.trouble is not None else status.reason
        sight = Sight(now - self.began, status.state, why)
        if not self.sights or (self.sights[-1].state, self.sights[-1].why) != (sight.state, why):
            self.sights.append(sight)
        if status.state not in UP:
            self.up_since = self.used_since = None
        elif not was_up:
            self.up_since, self._idle_bytes = now, status.numbers.bytes_down
        self.count(status.numbers)

    def count(self, numbers: Numbers) -> None:
        """Take in what it has moved."""
        waits = self.up_since is not None and self.used_since is None
        if waits and numbers.bytes_down > self._idle_bytes:
            self.used_since = time.monotonic()


class Audience:
    """Follows the redirections of a service.

    Attributes:
        courses: What each went through since :meth:`begin`.
    """

    def __init__(self) -> None:
        self.courses: dict[RedirectionId, Course] = {}
        self._bell = Bell()

    async def follow(self, changes: AsyncIterator[Change]) -> None:
        """Take in all changes, until cancelled."""
        async for change in changes:
            match change:
                case Snapshot(redirections=views):
                    for view in views:
                        self._look(view.status)
                case RedirectionChanged(status=status):
                    self._look(status)
                case NumbersSampled(id=redirection, numbers=numbers) if redirection in self.courses:
                    self.courses[redirection].count(numbers)
                case StoryAdded(id=redirection, event=event) if event.handover is not None:
                    self.courses[redirection].link_gap_ms = event.handover.link_gap_ms
                case _:
                    continue
            self._bell.ring()

    def begin(self) -> None:
        """Forget what was; the courses begin now, with how things are."""
        now = time.monotonic()
        for redirection, course in self.courses.items():
            self.courses[redirection] = Course(now, course.status)
            self.courses[redirection].look(course.status)

    async def until(self, condition: Callable[[Course], bool], limit_s: float) -> bool:
        """Wait until something is so for each; return whether it was in time."""
        end = asyncio.get_running_loop().time() + limit_s
        while not all(condition(course) for course in self.courses.values()):
            if asyncio.get_running_loop().time() >= end:
                return False
            await self._bell.wait(end)
        return True

    def _look(self, status: RedirectionStatus) -> None:
        course = self.courses.setdefault(status.id, Course(time.monotonic(), status))
        course.look(status)
