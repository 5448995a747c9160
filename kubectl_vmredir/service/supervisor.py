"""Owns the tasks of redirections: one each, and a bug in one is nobody else's trouble."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubectl_vmredir.errors import RedirectionNotFound
from kubectl_vmredir.service.bulkhead import Finisher, contained
from kubectl_vmredir.service.gate import Act
from kubectl_vmredir.service.interface import TRIAL_S, RedirectionEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubectl_vmredir.model import Identity, RedirectionId
    from kubectl_vmredir.service.interface import Change
    from kubectl_vmredir.service.redirection import Redirection
    from kubectl_vmredir.service.safety import Consent
    from kubectl_vmredir.service.watching import ClusterWatcher
    from kubectl_vmredir.service.wish import Wish

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Supervised:
    """A redirection and its tasks.

    Attributes:
        redirection: Does the work.
        turn: Held by whoever works on the redirection: its task, or its end.
        following: Has the VM followed; None while it is paused, and needs no news.
        task: Keeps it up or, paused, has the device given back.
        trial: Ends it unless it is confirmed in time.
        ending: Whether somebody has asked to end it.
    """

    redirection: Redirection
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    following: contextlib.ExitStack | None = None
    task: asyncio.Task[None] | None = None
    trial: asyncio.Task[None] | None = None
    ending: bool = False


class Supervisor:
    """Starts and ends redirections.

    Cancelling a task, or its death, closes and dials nothing: links belong to the device
    sessions, and those that go on are closed by :meth:`end` through the gate.

    Args:
        group: Runs the tasks.
        watcher: Follows the VMs for them.
        publish: Told when a redirection is no more.
    """

    def __init__(
        self,
        group: asyncio.TaskGroup,
        watcher: ClusterWatcher,
        publish: Callable[[Change], None],
    ) -> None:
        self._group = group
        self._watcher = watcher
        self._publish = publish
        self._finisher = Finisher(group)
        self._supervised: dict[RedirectionId, _Supervised] = {}

    def __iter__(self) -> Iterator[Redirection]:
        """Iterate over the redirections, oldest first."""
        return iter([supervised.redirection for supervised in self._supervised.values()])

    def wishes(self) -> Iterator[Wish]:
        """Iterate over what they are for, oldest first."""
        return (redirection.wish for redirection in self)

    def lasting(self) -> Iterator[Redirection]:
        """Iterate over those that nobody has asked to end, oldest first."""
        found = list(self._supervised.values())
        return (supervised.redirection for supervised in found if not supervised.ending)

    def start(self, redirection: Redirection) -> None:
        """Keep a redirection up from now on, or paused."""
        supervised = self._supervised[redirection.wish.id] = _Supervised(redirection)
        self._run(supervised)

    def retry(self, redirection: Redirection, bound_by: Identity, consent: Consent) -> None:
        """Have a blocked redirection try again, also one whose task has died."""
        self._watcher.try_again(redirection.wish.vmi)
        redirection.retry(bound_by, consent)
        self._revive(self._supervised[redirection.wish.id])

    def reconnect(self, redirection_id: RedirectionId) -> None:
        """Have a redirection close its link and dial anew, unless it is paused.

        Raises:
            RedirectionNotFound: If there is none of that id, or it is just being ended.
        """
        supervised = self._lasting(redirection_id)
        if not supervised.redirection.paused:
            self._watcher.try_again(supervised.redirection.wish.vmi)
            supervised.redirection.reconnect()
            self._revive(supervised)

    async def pause(self, redirection_id: RedirectionId) -> None:
        """Have the device given back; returns when that is done, or is no longer wanted.

        Raises:
            RedirectionNotFound: If there is none of that id, or it is just being ended.
        """
        supervised = self._lasting(redirection_id)
        if not supervised.redirection.paused:
            supervised.redirection.paused = True
            self._run(supervised)
        assert supervised.task is not None, "not started"
        await asyncio.wait([supervised.task])

    def resume(self, redirection_id: RedirectionId) -> None:
        """Keep a redirection up again, also one that just waits to be paused.

        Raises:
            RedirectionNotFound: If there is none of that id, or it is just being ended.
        """
        supervised = self._lasting(redirection_id)
        if supervised.redirection.paused:
            supervised.redirection.resume()
            self._run(supervised)

    def try_out(self, redirection_id: RedirectionId) -> None:
        """End a redirection after :data:`TRIAL_S`, unless :meth:`confirm` is called."""
        supervised = self._supervised[redirection_id]
        supervised.trial = self._group.create_task(
            self._end_of_trial(redirection_id), name=f"trial-{redirection_id}"
        )

    def confirm(self, redirection_id: RedirectionId) -> None:
        """Have the trial of a redirection end well, or never begin.

        Raises:
            RedirectionNotFound: If there is none of that id, or it is just being ended.
        """
        supervised = self._lasting(redirection_id)
        _cancel(supervised.trial)
        supervised.redirection.confirm()

    async def end(self, redirection_id: RedirectionId, act: Act, why: str = "") -> None:
        """End a redirection, through the gate; goes on if the caller is cancelled.

        Args:
            redirection_id: Names it.
            act: As what the gate is asked.
            why: For people; empty for the act itself.

        Raises:
            RedirectionNotFound: If there is none of that id.
        """
        if (supervised := self._supervised.get(redirection_id)) is None:
            raise RedirectionNotFound(redirection_id)
        await self._finisher.finish(
            f"end-{redirection_id}", lambda: self._end(supervised, act, why or str(act))
        )

    def cancel(self) -> None:
        """Stop all tasks, and leave links and devices to their owner."""
        for supervised in self._supervised.values():
            _cancel(supervised.task)
            _cancel(supervised.trial)
        self._finisher.cancel()

    def _lasting(self, redirection_id: RedirectionId) -> _Supervised:
        supervised = self._supervised.get(redirection_id)
        if supervised is None or supervised.ending:
            raise RedirectionNotFound(redirection_id)
        return supervised

    def _revive(self, supervised: _Supervised) -> None:
        if supervised.task is None or supervised.task.done():
            self._run(supervised)

    def _run(self, supervised: _Supervised) -> None:
        """Begin with what is wanted now, and end what was wanted before."""
        redirection = supervised.redirection
        _cancel(supervised.task)
        if supervised.following is None:
            supervised.following = contextlib.ExitStack()
            supervised.following.enter_context(
                self._watcher.follow(redirection.wish.vmi, redirection.bell)
            )
        supervised.task = self._group.create_task(
            self._supervise(supervised), name=f"supervise-{redirection.wish.id}"
        )

    @staticmethod
    async def _supervise(supervised: _Supervised) -> None:
        redirection = supervised.redirection
        async with supervised.turn:
            work = redirection.rest() if redirection.paused else redirection.run()
            bug = await contained(work, name=f"redirection-{redirection.wish.id}")
            if bug is not None:
                logger.error("redirection %s has a bug", redirection.wish.id, exc_info=bug)
                redirection.crashed(bug.exceptions[0])
            else:  # it is paused
                _cancel(supervised.trial)
                _unfollow(supervised)

    async def _end_of_trial(self, redirection_id: RedirectionId) -> None:
        await asyncio.sleep(TRIAL_S)
        supervised = self._supervised[redirection_id]
        if supervised.redirection.paused and supervised.task is not None:
            # The trial ends with the pause; and if that is undone, it is over.
            await asyncio.wait([supervised.task])
        bug = await contained(
            self.end(redirection_id, Act.UNBIND, f"not confirmed in {TRIAL_S:.0f} s"),
            name=f"end-trial-{redirection_id}",
        )
        if bug is not None:
            logger.error("redirection %s cannot be ended", redirection_id, exc_info=bug)

    async def _end(self, supervised: _Supervised, act: Act, why: str) -> None:
        supervised.ending = True
        _cancel(supervised.task)
        _cancel(supervised.trial)
        async with supervised.turn:
            await supervised.redirection.wind_down(act, why)
        _unfollow(supervised)
        del self._supervised[supervised.redirection.wish.id]
        self._watcher.ring(supervised.redirection.wish.vmi)  # somebody may want its slot
        self._publish(RedirectionEnded(supervised.redirection.wish.id))


def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()


def _unfollow(supervised: _Supervised) -> None:
    if supervised.following is not None:
        supervised.following.close()
        supervised.following = None
