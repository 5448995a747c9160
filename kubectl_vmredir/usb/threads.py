"""Calls that may hang in the kernel or in a name server, each in a daemon thread of its own.

Who gives up such a call leaves its thread behind. A thread of asyncio's pool would then be waited
for: when the loop is closed, and once more when the interpreter ends.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

MOST_THREADS: Final = 64
"""As many calls may hang; others wait until one comes back."""

_LOOK_AGAIN_S: Final = 0.1

_free = threading.BoundedSemaphore(MOST_THREADS)


async def in_thread(call: Callable[[], Result], *, name: str) -> Result:
    """Return what a blocking call returns, or raise what it raises.

    Whoever is cancelled meanwhile goes on at once, and the call to its end.

    Args:
        call: What to do in the thread.
        name: Of the thread.
    """
    while not _free.acquire(blocking=False):  # noqa: ASYNC110 - it is released by threads
        await asyncio.sleep(_LOOK_AGAIN_S)
    result = start(call, name=name)
    result.add_done_callback(lambda _: _free.release())
    return await asyncio.wrap_future(result)


def start(call: Callable[[], Result], *, name: str) -> Future[Result]:
    """Begin a blocking call in a thread that nobody waits for at exit; return its result to be."""
    result: Future[Result] = Future()
    result.set_running_or_notify_cancel()  # so it cannot be cancelled
    threading.Thread(target=_run, args=(call, result), name=name, daemon=True).start()
    return result


def _run(call: Callable[[], Result], result: Future[Result]) -> None:
    try:
        returned = call()
    except BaseException as exc:  # noqa: BLE001 - it is raised where the result is waited for
        result.set_exception(exc)
    else:
        result.set_result(returned)
