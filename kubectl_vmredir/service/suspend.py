"""Hears that the machine has slept, without a look at the clocks every now and then.

When a machine wakes up its wall clock makes a step, and so does it when somebody sets it. Linux
tells of both through a timer that is cancelled by them, timerfd_create(2), TFD_TIMER_CANCEL_ON_SET;
two other clocks then tell one from the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
import time
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.liveness import SuspendDetector

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

# sys/timerfd.h
_TFD_NONBLOCK: Final = os.O_NONBLOCK
_TFD_CLOEXEC: Final = os.O_CLOEXEC
_TFD_TIMER_ABSTIME: Final = 1 << 0
_TFD_TIMER_CANCEL_ON_SET: Final = 1 << 1
_ITIMERSPEC: Final = struct.Struct("@4l")
_NEVER_S: Final = 1 << 33
"""Seconds since the epoch; the time itself does not matter."""
_COUNT_BYTES: Final = 8


def awake_and_elapsed_s() -> tuple[float, float]:
    """Return the clock that stands still in a suspend, and the one that does not."""
    return time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)


def open_steps() -> int:
    """Return a descriptor that is readable when the wall clock made a step; the caller closes it.

    Raises:
        OSError: If this system has no such thing.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.timerfd_create(time.CLOCK_REALTIME, _TFD_NONBLOCK | _TFD_CLOEXEC))
    if descriptor < 0:
        raise _last_error()
    flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
    if libc.timerfd_settime(descriptor, flags, _ITIMERSPEC.pack(0, 0, _NEVER_S, 0), None):
        error = _last_error()
        os.close(descriptor)
        raise error
    return descriptor


async def suspends(
    steps: Callable[[], int] = open_steps,
    clocks: Callable[[], tuple[float, float]] = awake_and_elapsed_s,
) -> AsyncGenerator[float, None]:
    """Yield for how many seconds the machine slept, each time that it has, until closed.

    Args:
        steps: See :func:`open_steps`.
        clocks: See :func:`awake_and_elapsed_s`.

    Raises:
        OSError: As ``steps`` does.
    """
    loop = asyncio.get_running_loop()
    descriptor = steps()
    try:
        bell = Bell()
        loop.add_reader(descriptor, _heard, descriptor, bell)
        detector = SuspendDetector(*clocks())
        while True:
            await bell.wait()
            if slept_s := detector.slept_s(*clocks()):
                yield slept_s
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _heard(descriptor: int, bell: Bell) -> None:
    with contextlib.suppress(OSError):  # ECANCELED: the step, which is told once
        os.read(descriptor, _COUNT_BYTES)
    bell.ring()


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
