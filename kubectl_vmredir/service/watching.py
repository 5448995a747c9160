"""Keeps what is known of the VMs up to date, and holds the gate to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.backoff import exponential_backoff
from kubectl_vmredir.errors import ClusterError, StreamLost, VmRedirError
from kubectl_vmredir.service.bulkhead import contained
from kubectl_vmredir.service.gate import RULES, Gate
from kubectl_vmredir.service.migration import MigrationTracker, VmiFacts
from kubectl_vmredir.service.ports import WatchLost, WatchRestored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_vmredir.backoff import BackoffFactory
    from kubectl_vmredir.model import VmiRef
    from kubectl_vmredir.service.bell import Bell
    from kubectl_vmredir.service.gate import Rule
    from kubectl_vmredir.service.ports import Cluster, ClusterEvent

logger = logging.getLogger(__name__)

PERSON_FACTOR: Final = 8
"""So much longer is waited where waiting alone cures nothing: each try may run a credential
plugin of the user, which may put a window on the screen."""


class _Watch:
    """One VMI that somebody follows."""

    def __init__(self) -> None:
        self.tracker = MigrationTracker()
        self.bells: list[Bell] = []
        self.restored = 0
        self.trouble: ClusterError | None = None
        self.task: asyncio.Task[None] | None = None


class ClusterWatcher:
    """Watches each VMI for as long as somebody follows it.

    Attributes:
        gate: Answers for the VMIs that are followed; for others nothing is certain.

    Args:
        cluster: Where the VMIs are.
        group: Runs the watches.
        rules: Rules of the gate.
        backoff: How long to wait before a watch that broke for good is tried again.
    """

    def __init__(
        self,
        cluster: Cluster,
        group: asyncio.TaskGroup,
        *,
        rules: Sequence[Rule] = RULES,
        backoff: BackoffFactory = exponential_backoff,
    ) -> None:
        self.gate = Gate(self.facts, rules)
        self._cluster = cluster
        self._group = group
        self._backoff = backoff
        self._watches: dict[VmiRef, _Watch] = {}

    def facts(self, ref: VmiRef) -> VmiFacts:
        """Return what is known of a VMI."""
        watch = self._watches.get(ref)
        return watch.tracker.facts(ref) if watch is not None else VmiFacts()

    def restorations(self, ref: VmiRef) -> int:
        """Return how often the watch of a VMI has come (back)."""
        watch = self._watches.get(ref)
        return watch.restored if watch is not None else 0

    def trouble(self, ref: VmiRef) -> ClusterError | None:
        """Return why a VMI cannot be watched until a person acts; None if that is not so."""
        watch = self._watches.get(ref)
        return watch.trouble if watch is not None else None

    @contextlib.contextmanager
    def follow(self, ref: VmiRef, bell: Bell) -> Iterator[None]:
        """Watch a VMI, and ring the bell whenever something about it may have changed."""
        watch = self._watches.get(ref)
        if watch is None:
            watch = self._watches[ref] = _Watch()
            self._start(ref, watch)
        watch.bells.append(bell)
        try:
            yield
        finally:
            watch.bells.remove(bell)
            if not watch.bells and watch.task is not None:
                watch.task.cancel()
                del self._watches[ref]

    def cancel(self) -> None:
        """Stop watching; for the end of everything."""
        for watch in self._watches.values():
            if watch.task is not None:
                watch.task.cancel()

    def ring(self, ref: VmiRef) -> None:
        """Wake all that follow a VMI."""
        if (watch := self._watches.get(ref)) is not None:
            for bell in watch.bells:
                bell.ring()

    def start_over(self) -> None:
        """Watch everything anew: what we know may be old, and its watch not know that yet."""
        for ref, watch in self._watches.items():
            self._start(ref, watch)

    def try_again(self, ref: VmiRef) -> None:
        """Watch a VMI now that could not be watched: a person has acted."""
        watch = self._watches.get(ref)
        if watch is not None and watch.trouble is not None:
            watch.trouble = None
            self._start(ref, watch)

    def _start(self, ref: VmiRef, watch: _Watch) -> None:
        if watch.task is not None:
            watch.task.cancel()
        watch.tracker.begin()
        watch.task = self._group.create_task(self._keep_watching(ref, watch), name=f"watch-{ref}")

    async def _keep_watching(self, ref: VmiRef, watch: _Watch) -> None:
        bug = await contained(self._watch(ref, watch), name=f"watching-{ref}")
        if bug is not None:
            logger.error("the watch of %s has a bug", ref, exc_info=bug)
            self._take(
                ref, watch, WatchLost(VmRedirError(f"internal error: {bug.exceptions[0]!r}"))
            )

    async def _watch(self, ref: VmiRef, watch: _Watch) -> None:
        delays = self._backoff()
        while True:
            restored = watch.restored
            watch.tracker.begin()
            cause: VmRedirError
            try:
                async with self._cluster.watch(ref.namespace, ref.name) as events:
                    async for event in events:
                        self._take(ref, watch, event)
                cause = StreamLost("the watch ended")
            except ClusterError as error:
                cause = error
                watch.trouble = None if error.retryable else error
            self._take(ref, watch, WatchLost(cause))
            if watch.restored > restored:
                delays = self._backoff()
            delay_s = next(delays) * (1 if cause.retryable else PERSON_FACTOR)
            logger.info("watch of %s: %s; again in %.1f s", ref, cause, delay_s)
            await asyncio.sleep(delay_s)

    def _take(self, ref: VmiRef, watch: _Watch, event: ClusterEvent) -> None:
        now = asyncio.get_running_loop().time()
        if isinstance(event, WatchRestored):
            watch.restored += 1
            watch.trouble = None
        touched = watch.tracker.handle(event, now)
        if ref in touched or isinstance(event, WatchLost | WatchRestored):
            for bell in watch.bells:
                bell.ring()
