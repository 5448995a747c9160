"""The time that controllers and nodes go by; tests bring their own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What controllers and nodes ask for the time."""

    def now(self) -> datetime:
        """Return the time of day, UTC."""

    async def sleep(self, delay_s: float) -> None:
        """Return when so many seconds have passed."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time of day, UTC."""
        return datetime.now(UTC)

    async def sleep(self, delay_s: float) -> None:
        """Return when so many seconds have passed."""
        await asyncio.sleep(delay_s)


def rfc3339(moment: datetime) -> str:
    """Return a time as Kubernetes writes it: whole seconds, UTC."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> datetime:
    """Return the time that Kubernetes wrote.

    Raises:
        ValueError: If it is none.
    """
    return datetime.fromisoformat(text)
