"""Wakes a task that looks at the state of things, acts, and waits until something changes."""

from __future__ import annotations

import asyncio
import contextlib


class Bell:
    """Rung by whoever changes something that its owner looks at.

    Rings are not counted and say nothing: after each one the owner looks at everything again,
    so none can be missed and none can come too often. It has one waiter.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter, now or as soon as it waits."""
        self._event.set()

    async def wait(self, until: float | None = None) -> None:
        """Return when rung, also if that was before, or when the loop's clock shows ``until``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._event.wait()
        self._event.clear()
