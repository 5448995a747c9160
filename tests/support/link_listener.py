"""Somebody who listens to a link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kubectl_vmredir.errors import VmRedirError
from kubectl_vmredir.model import Boundary


def at_will() -> None:
    """Let a dialer dial whenever it wants."""


class Listener:
    """Remembers what it hears of a link, and can be waited for."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.round_trips_s: list[float] = []
        self.writable: list[bool] = []
        self.end: tuple[Boundary, VmRedirError] | None = None
        self._changed = asyncio.Event()

    def link_received(self, data: memoryview) -> None:
        self.heard += data
        self._changed.set()

    def link_consumed(self, offset: int) -> None:
        raise AssertionError(offset)

    def link_writable(self, writable: bool) -> None:
        self.writable.append(writable)
        self._changed.set()

    def link_pong(self, round_trip_s: float) -> None:
        self.round_trips_s.append(round_trip_s)
        self._changed.set()

    def link_ended(self, boundary: Boundary, cause: VmRedirError) -> None:
        self.end = (boundary, cause)
        self._changed.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
