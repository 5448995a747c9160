"""The clock of the simulated guest."""

from __future__ import annotations

import asyncio
from typing import Final

_BOOTED_AT_S: Final = 4.0
"""When the guest program begins, about as in the real guest."""


class Uptime:
    """Time of the guest, in seconds of uptime: it stands still while the guest is stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._before = _BOOTED_AT_S
        self._since: float | None = None

    def now(self) -> float:
        """Return the uptime."""
        return self._before + (0.0 if self._since is None else self._loop.time() - self._since)

    def start(self) -> None:
        """Let it run."""
        self._since = self._loop.time()

    def stop(self) -> None:
        """Let it stand still."""
        self._before, self._since = self.now(), None

    def set(self, uptime_s: float) -> None:
        """Set it, while it stands still."""
        self._before = uptime_s
