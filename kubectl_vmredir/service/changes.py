"""Tells followers that something has changed; who is slow hears of many changes as one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Changes:
    """A count of changes that can be followed."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = asyncio.Event()

    def announce(self) -> None:
        """Wake all followers."""
        self._count += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def follow(self) -> AsyncGenerator[None, None]:
        """Yield whenever something has changed since this call, until closed."""
        return self._follow(self._count)

    async def _follow(self, seen: int) -> AsyncGenerator[None, None]:
        while True:
            while self._count == seen:
                await self._changed.wait()
            seen = self._count
            yield
