"""An event loop whose clock jumps: waiting costs no time.

What is sent to a socket of this process is there at once, nearly: the kernel, or a thread, may need
a moment. A patient loop waits a little of what it is asked to wait before it jumps.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

_REAL_WAIT_S: Final = 1.0
"""How long to wait for the outside when no timer is set at all."""

_LIMIT_S: Final = 60.0
_LOOK_S: Final = 0.1

_START: Final = 1000.0
_END: Final = _START + 3600.0


class _JumpingSelector(selectors.DefaultSelector):
    """Does not wait: if nothing is ready, the time that was to be waited has passed.

    Args:
        patience: Which part of each wait is waited all the same.
    """

    def __init__(self, patience: float) -> None:
        super().__init__()
        self.now = _START
        self.at_rest: list[asyncio.Future[None]] = []
        self._patience = patience

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        waits = timeout is None or timeout > 0
        endless = timeout is None and not self.at_rest
        ready = super().select(_REAL_WAIT_S if endless else (timeout or 0.0) * self._patience)
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

    patience: ClassVar[float] = 0.0

    def __init__(self) -> None:
        self._jumping = _JumpingSelector(self.patience)
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class PatientClockLoop(VirtualClockLoop):
    """For tests with real servers and clients on the loop."""

    patience = 1 / 200


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


async def until(condition: Callable[[], bool]) -> None:
    """Let time pass until something is so; a minute at most."""
    deadline = asyncio.get_running_loop().time() + _LIMIT_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it does not become so"
        await after(_LOOK_S)


def virtual_clock_loops() -> Mapping[str, Any]:
    """Return what makes loops, for the hook ``pytest_asyncio_loop_factories``."""
    return {"virtual": VirtualClockLoop}


def patient_clock_loops() -> Mapping[str, Any]:
    """As :func:`virtual_clock_loops`, for tests with real servers and clients on the loop."""
    return {"virtual": PatientClockLoop}
