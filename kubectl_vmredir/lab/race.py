"""Waiting for whatever comes first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

Result = TypeVar("Result")


async def race(*runners: Coroutine[Any, Any, Result]) -> Result:
    """Run all, cancel the others when one has ended, and return its result.

    If several have ended at the same time, it is that of the first in order. The losers have
    ended, too, when this returns.

    Raises:
        ExceptionGroup: Of what they raised: a runner is expected to return.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(runner) for runner in runners]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
    return next(task for task in tasks if task in done).result()
