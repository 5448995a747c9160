"""An event loop whose clock runs faster than the machine's.

Migrating a simulated guest is mostly waiting: for the gate, for the flip of nodeName. Here all
timers of the lab, the guest and the service go by one fast clock, so their order and their
ratios are those of real time, and a hundred migrations take a minute. Only for guests that go
by the same clock; QEMU does not.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from selectors import SelectorKey

SPEED: Final = 10
"""Seconds of the loop's clock in a second."""


def speed() -> int:
    """Return how many seconds of the running loop's clock are in a second."""
    return SPEED if isinstance(asyncio.get_running_loop(), FastLoop) else 1


class _FastSelector(selectors.DefaultSelector):
    """Waits a fraction of what it is asked to wait."""

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait for events; see ``selectors.BaseSelector.select``."""
        return super().select(timeout if timeout is None else timeout / SPEED)


class FastLoop(asyncio.SelectorEventLoop):
    """The loop; its :meth:`time` is monotonic, as any loop's."""

    def __init__(self) -> None:
        super().__init__(_FastSelector())

    def time(self) -> float:
        """Return the loop's time in its own seconds."""
        return super().time() * SPEED
