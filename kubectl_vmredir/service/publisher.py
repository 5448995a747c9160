"""Tells subscribers what changes, and waits for none of them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

from kubectl_vmredir.service.interface import NumbersSampled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from kubectl_vmredir.model import RedirectionId
    from kubectl_vmredir.service.interface import Change, Numbers, Snapshot

QUEUE_CHANGES: Final = 256
"""Changes kept for one subscriber; one more and it gets a new snapshot instead of them."""

SAMPLE_INTERVAL_S: Final = 0.1


class _Subscription:
    """Changes on their way to one subscriber."""

    def __init__(self, snapshot: Callable[[], Snapshot], *, numbers: bool) -> None:
        self.numbers = numbers
        self._snapshot = snapshot
        self._queue: asyncio.Queue[Change | None] = asyncio.Queue(QUEUE_CHANGES)
        self._behind = True

    def put(self, change: Change | None) -> None:
        """Queue a change; None ends the stream."""
        try:
            self._queue.put_nowait(change)
        except asyncio.QueueFull:
            self._clear()
            self._behind = True
            self._queue.put_nowait(change)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        change = None if self._behind else await self._queue.get()
        # The queue may have run over while we waited for a subscriber that was slow.
        if self._behind:
            ended = self._clear()
            self._behind = False
            if ended:
                self._queue.put_nowait(None)
            return self._snapshot()
        if change is None:
            self._queue.put_nowait(None)
            raise StopAsyncIteration
        return change

    def _clear(self) -> bool:
        """Drop all that is queued; return whether the end was among it."""
        ended = False
        while not self._queue.empty():
            ended = self._queue.get_nowait() is None or ended
        return ended


class Publisher:
    """Hands each change to all subscribers.

    Args:
        snapshot: Returns all there is now.
        numbers: Returns the counters of all redirections now.
    """

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        numbers: Callable[[], Mapping[RedirectionId, Numbers]],
    ) -> None:
        self._snapshot = snapshot
        self._numbers = numbers
        self._subscriptions: set[_Subscription] = set()
        self._numbers_wanted = asyncio.Event()
        self._closed = False

    def publish(self, change: Change) -> None:
        """Tell everybody, unless closed."""
        if self._closed:
            return
        for subscription in self._subscriptions:
            subscription.put(change)

    def close(self) -> None:
        """End the streams of all subscribers, after what they have not heard yet."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.put(None)

    @asynccontextmanager
    async def subscribe(self, *, numbers: bool) -> AsyncIterator[AsyncIterator[Change]]:
        """Hear a snapshot and then all changes, until closed."""
        subscription = _Subscription(self._snapshot, numbers=numbers)
        self._subscriptions.add(subscription)
        if self._closed:
            subscription.put(None)
        self._note_interest()
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            self._note_interest()

    async def sample(self) -> None:
        """Tell the counters that moved to those who asked for them; runs until cancelled.

        Sampled, not told by the data path, which would then work for the drawing.
        """
        told: Mapping[RedirectionId, Numbers] = {}
        while True:
            await self._numbers_wanted.wait()
            numbers = self._numbers()
            for redirection_id, counts in numbers.items():
                if told.get(redirection_id) != counts:
                    self._publish_numbers(NumbersSampled(redirection_id, counts))
            told = numbers
            await asyncio.sleep(SAMPLE_INTERVAL_S)

    def _publish_numbers(self, sample: NumbersSampled) -> None:
        for subscription in self._subscriptions:
            if subscription.numbers:
                subscription.put(sample)

    def _note_interest(self) -> None:
        if any(subscription.numbers for subscription in self._subscriptions):
            self._numbers_wanted.set()
        else:
            self._numbers_wanted.clear()
