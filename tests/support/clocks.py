"""A clock that goes only when a test moves it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta


class ManualClock:
    """Starts at noon; :meth:`advance` lets time pass, and wakes whoever slept long enough."""

    def __init__(self) -> None:
        self._now = datetime(2026, 11, 23, 12, tzinfo=UTC)
        self._sleepers: list[tuple[datetime, asyncio.Event]] = []
        self._changed = asyncio.Event()

    def now(self) -> datetime:
        return self._now

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            return
        woken = asyncio.Event()
        sleeper = (self._now + timedelta(seconds=delay_s), woken)
        self._sleepers.append(sleeper)
        self._changed.set()
        try:
            await woken.wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)

    def advance(self, delay_s: float) -> None:
        self._now += timedelta(seconds=delay_s)
        for at, woken in self._sleepers:
            if at <= self._now:
                woken.set()
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._now]

    @property
    def sleeps_s(self) -> list[float]:
        """How long those who sleep still have to, in seconds."""
        return [round((at - self._now).total_seconds(), 6) for at, _ in self._sleepers]

    async def asleep_for(self, delay_s: float) -> None:
        """Wait until somebody sleeps for exactly so long."""
        async with asyncio.timeout(10):
            while round(delay_s, 6) not in self.sleeps_s:
                self._changed.clear()
                await self._changed.wait()
