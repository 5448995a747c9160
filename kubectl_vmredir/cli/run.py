"""Runs the asynchronous part of a command."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kubectl_vmredir.bootstrap import open_devices, open_service
from kubectl_vmredir.cli.log import quiet_libraries
from kubectl_vmredir.errors import VmRedirError
from kubectl_vmredir.service.looking import Onlooker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from contextlib import AbstractAsyncContextManager

    from kubectl_vmredir.bootstrap import Connection, Options
    from kubectl_vmredir.cli.reaching import Reached
    from kubectl_vmredir.model import DeviceUse, LocalDevice
    from kubectl_vmredir.service.ports import DeviceSource

Opened = TypeVar("Opened")
Result = TypeVar("Result")

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those that ask a command to end."""


def with_service(options: Options, work: Callable[[Reached], Awaitable[Result]]) -> Result:
    """Let ``work`` use the agent's service if an agent runs, or else one in this process.

    Ctrl-c cancels the work.
    """
    from kubectl_vmredir.cli.reaching import service_anywhere  # late: `devices` needs no agent

    return run_with(service_anywhere(options), work)


def with_own_service(options: Options, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Open a service in this process, let ``work`` use it, and close it again."""
    return run_with(open_service(options), work)


def run_with(
    opened: AbstractAsyncContextManager[Opened], work: Callable[[Opened], Awaitable[Result]]
) -> Result:
    """Enter a context, let ``work`` use what it gives, and leave it; ctrl-c cancels the work."""

    async def main() -> Result:
        async with opened as given:
            return await work(given)

    return unwrapped(lambda: asyncio.run(main()))


def local_devices(options: Options) -> Sequence[tuple[LocalDevice, DeviceUse]]:
    """Return the devices that are plugged in, and how they are used; asks no cluster.

    Raises:
        UsbError: If this machine does not tell, or not in time.
    """

    async def main() -> Sequence[tuple[LocalDevice, DeviceUse]]:
        async with open_devices(options) as source:
            return await uses(source)

    return unwrapped(lambda: asyncio.run(main()))


async def uses(source: DeviceSource) -> Sequence[tuple[LocalDevice, DeviceUse]]:
    """Return the devices of a source, and how they are used, as far as this machine tells in time.

    Raises:
        UsbError: If it does not tell which there are.
    """
    return [(seen.device, seen.use) for seen in await Onlooker(source).look_around()]


def until_signal(
    work: Coroutine[Any, Any, Result],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Result:
    """Run work that has much to clean up: the first of the signals cancels it, others wait.

    Who presses ctrl-c twice does not cut the cleaning up short.

    Args:
        work: What to run.
        loop_factory: Makes the event loop; None for asyncio's own.

    Raises:
        SystemExit: With the exit status of the signal, once all is cleaned up.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(_cancelled_by_signals(work))


async def _cancelled_by_signals(work: Coroutine[Any, Any, Result]) -> Result:
    task = asyncio.current_task()
    assert task is not None, "outside of a task"
    loop = asyncio.get_running_loop()
    came: list[signal.Signals] = []

    def cancel(number: signal.Signals) -> None:
        came.append(number)
        if len(came) == 1:
            quiet_libraries()
            task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, cancel, number)
    try:
        return await work
    except asyncio.CancelledError:
        if came:
            raise SystemExit(128 + came[0]) from None
        raise


def unwrapped(run: Callable[[], Result]) -> Result:
    """Return what ``run`` returns; an error that is expected comes out of its task groups alone.

    Raises:
        VmRedirError: The first of those that ended the task groups, if they are all expected.
        BrokenPipeError: As that, if nobody reads the output any more.
    """
    try:
        return run()
    except BaseExceptionGroup as group:
        errors = group.split((VmRedirError, BrokenPipeError))
        if errors[0] is None or errors[1] is not None:
            raise
        raise _first(errors[0]) from None


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
