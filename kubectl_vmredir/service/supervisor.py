"""Owns the tasks of redirections: one each, and a bug in one is nobody else's trouble."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
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

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Supervised:
    redirection: Redirection
    following: contextlib.ExitStack
    task: asyncio.Task[None]
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

    def lasting(self) -> Iterator[Redirection]:
        """Iterate over those that nobody has asked to end, oldest first."""
        found = list(self._supervised.values())
        return (supervised.redirection for supervised in found if not supervised.ending)

    def start(self, redirection: Redirection) -> None:
        """Keep a redirection up from now on."""
        following = contextlib.ExitStack()
        following.enter_context(self._watcher.follow(redirection.wish.vmi, redirection.bell))
        self._supervised[redirection.wish.id] = _Supervised(
            redirection, following, self._run(redirection)
        )

    def retry(self, redirection: Redirection, bound_by: Identity, consent: Consent) -> None:
        """Have a blocked redirection try again, also one whose task has died."""
        redirection.retry(bound_by, consent)
        supervised = self._supervised[redirection.wish.id]
        if supervised.task.done():
            supervised.task = self._run(redirection)

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
        supervised = self._supervised.get(redirection_id)
        if supervised is None or supervised.ending:
            raise RedirectionNotFound(redirection_id)
        if supervised.trial is not None:
            supervised.trial.cancel()
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
            supervised.task.cancel()
            if supervised.trial is not None:
                supervised.trial.cancel()
        self._finisher.cancel()

    def _run(self, redirection: Redirection) -> asyncio.Task[None]:
        return self._group.create_task(
            self._supervise(redirection), name=f"supervise-{redirection.wish.id}"
        )

    @staticmethod
    async def _supervise(redirection: Redirection) -> None:
        bug = await contained(redirection.run(), name=f"redirection-{redirection.wish.id}")
        if bug is not None:
            logger.error("redirection %s has a bug", redirection.wish.id, exc_info=bug)
            redirection.crashed(bug.exceptions[0])

    async def _end_of_trial(self, redirection_id: RedirectionId) -> None:
        await asyncio.sleep(TRIAL_S)
        bug = await contained(
            self.end(redirection_id, Act.UNBIND, f"not confirmed in {TRIAL_S:.0f} s"),
            name=f"end-trial-{redirection_id}",
        )
        if bug is not None:
            logger.error("redirection %s cannot be ended", redirection_id, exc_info=bug)

    async def _end(self, supervised: _Supervised, act: Act, why: str) -> None:
        supervised.ending = True
        supervised.task.cancel()
        if supervised.trial is not None:
            supervised.trial.cancel()
        await asyncio.wait([supervised.task])
        await supervised.redirection.wind_down(act, why)
        supervised.following.close()
        del self._supervised[supervised.redirection.wish.id]
        self._publish(RedirectionEnded(supervised.redirection.wish.id))
