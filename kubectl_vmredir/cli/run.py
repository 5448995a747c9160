"""Runs the asynchronous part of a command."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from kubectl_vmredir.bootstrap import open_devices, open_service
from kubectl_vmredir.errors import VmRedirError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from kubectl_vmredir.bootstrap import Connection, Options
    from kubectl_vmredir.model import LocalDevice

Result = TypeVar("Result")


def with_service(options: Options, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Open a service, let ``work`` use it, and close it again; ctrl-c cancels the work."""

    async def main() -> Result:
        async with open_service(options) as connection:
            return await work(connection)

    return unwrapped(lambda: asyncio.run(main()))


def local_devices(options: Options) -> Sequence[LocalDevice]:
    """Return the devices that are plugged in; asks no cluster."""

    async def main() -> Sequence[LocalDevice]:
        async with open_devices(options) as source:
            return await source.devices()

    return unwrapped(lambda: asyncio.run(main()))


def unwrapped(run: Callable[[], Result]) -> Result:
    """Return what ``run`` returns; an error of ours comes out of its task groups alone.

    Raises:
        VmRedirError: The first of those that ended the task groups, if they are all ours.
    """
    try:
        return run()
    except BaseExceptionGroup as group:
        errors = group.split(VmRedirError)
        if errors[0] is None or errors[1] is not None:
            raise
        raise _first(errors[0]) from None


def _first(group: BaseExceptionGroup[VmRedirError]) -> VmRedirError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
