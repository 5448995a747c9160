"""Keeps a bug in one task from its neighbours, and a cancelled caller from work half done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kubectl_vmredir.errors import VmRedirError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


async def contained(
    work: Coroutine[Any, Any, None], *, name: str
) -> ExceptionGroup[Exception] | None:
    """Run ``work`` in a group of its own; return what it raised, if it did.

    A TaskGroup takes all of its tasks down when one raises. In a group of one that hits nobody
    else. Cancellation passes.
    """
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(work, name=name)
    except ExceptionGroup as raised:
        return raised
    return None


def unexpected(raised: ExceptionGroup[Exception]) -> ExceptionGroup[Exception] | None:
    """Return what of it nobody raised on purpose."""
    return raised.split(VmRedirError)[1]


class Finisher:
    """Runs work that goes on to its end when whoever asked for it is cancelled.

    Args:
        group: Runs the work, and must outlast those who ask for it.
    """

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: dict[str, asyncio.Task[ExceptionGroup[Exception] | None]] = {}

    async def finish(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run work, or join the work of that name that is under way; return at its end.

        Raises:
            VmRedirError: If the work raises it.
            ExceptionGroup: Around anything else that the work raises.
        """
        if (task := self._tasks.get(name)) is None:
            task = self._group.create_task(contained(work(), name=name), name=f"finish-{name}")
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._tasks.pop(name))
        await asyncio.wait([task])
        raised = task.result()
        if raised is None:
            return
        if unexpected(raised) is None and isinstance(error := raised.exceptions[0], VmRedirError):
            raise error
        raise raised

    def under_way(self, name: str) -> bool:
        """Return whether work of that name is being done."""
        return name in self._tasks

    async def join(self, name: str) -> None:
        """Return when no work of that name is under way, however it ended."""
        if (task := self._tasks.get(name)) is not None:
            await asyncio.wait([task])

    def cancel(self) -> None:
        """Stop all work; for the end of everything."""
        for task in self._tasks.values():
            task.cancel()
