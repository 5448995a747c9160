"""An event loop whose clock jumps: waiting costs no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any, Final

_REAL_WAIT_S: Final = 1.0
"""How long to wait for the outside when no timer is set at all."""

_START: Final = 1000.0
_END: Final = _START + 3600.0


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: if nothing is ready, the time that was to be waited has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = _START
        self.at_rest: list[asyncio.Future[None]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        waits = timeout is None or timeout > 0
        ready = super().select(_REAL_WAIT_S if timeout is None and not self.at_rest else 0)
        if ready or not waits:
            return ready
        if self.at_rest:
            for future in self.at_rest:
                future.set_result(None)
            self.at_rest = []
        else:
            self.now += timeout or 0.0
            assert self.now < _END, "an hour has passed: what is waited for does not come"
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer when there is nothing else to do; sockets work as ever."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


async def at_rest() -> None:
    """Return when all that can happen now has happened; no time passes."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    future = loop.create_future()
    loop._jumping.at_rest.append(future)
    await future


async def after(seconds: float) -> None:
    """Let time pass, and all happen that comes of it."""
    await asyncio.sleep(seconds)
    await at_rest()


def virtual_clock_loops() -> Mapping[str, Any]:
    """Return what makes loops, for the hook ``pytest_asyncio_loop_factories``."""
    return {"virtual": VirtualClockLoop}
