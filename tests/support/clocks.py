"""A clock that goes only when a test moves it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta


class ManualClock:
    """Starts at noon; :meth:`advance` lets time pass, and wakes whoever slept long enough."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 23, 12, tzinfo=UTC)
        self._sleepers: list[tuple[datetime, asyncio.Event]] = []
        self._asleep = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            return
        woken = asyncio.Event()
        self._sleepers.append((self._now + timedelta(seconds=delay_s), woken))
        self._asleep.set()
        await woken.wait()

    def advance(self, delay_s: float) -> None:
        self._now += timedelta(seconds=delay_s)
        due = [woken for at, woken in self._sleepers if at <= self._now]
        self._sleepers = [entry for entry in self._sleepers if entry[0] > self._now]
        for woken in due:
            woken.set()
