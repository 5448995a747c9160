"""A redirection that lives as long as a command does, and how a signal ends it.

The first signal asks for an orderly end, which waits for the gate (docs/migration.md), and says
so. At a second one it is said what ending now may break, and asked, if there is somebody to ask.
When a minute is over a ctrl-c asks as well; the other signals end the command.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import termios
import time
from typing import TYPE_CHECKING

import click

from kubectl_vmredir.cli.output import abandon, printable
from kubectl_vmredir.cli.run import SIGNALS
from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.interface import (
    SHUTDOWN_WAIT_S,
    RedirectionChanged,
    StoryAdded,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from kubectl_vmredir.model import RedirectionId
    from kubectl_vmredir.service.interface import (
        BindRequest,
        Change,
        ExitRisk,
        StoryEvent,
        Trouble,
    )
    from kubectl_vmredir.service.service import Service


async def keep_bound(service: Service, request: BindRequest) -> int:
    """Bind, tell what happens on stderr, and stay until a signal ends it.

    Returns:
        The exit status: that of the trouble if the device never got into the VM because of
        something that a person must cure, else that of the signal.

    Raises:
        VmRedirError: If the wish makes no sense.
    """
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    # What was ignored when we began is not for us: nohup, or a job of a shell without job control.
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heeded:
        loop.add_signal_handler(number, signals.put_nowait, number)
    try:
        async with service.subscribe() as changes, asyncio.TaskGroup() as group:
            redirection = await service.bind(request)
            following = group.create_task(_follow(changes, redirection), name="follow")
            ending = group.create_task(_end_at_signal(service, signals), name="signals")
            await asyncio.wait([following, ending], return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                following.cancel()
                return ending.result()
            ending.cancel()
            await _end(service, signals, asks=False)
            return following.result()
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


async def _follow(changes: AsyncIterator[Change], wanted: RedirectionId) -> int:
    """Tell the story of a redirection; return if it cannot begin, or when the service ends."""
    was_connected = False
    async for change in changes:
        match change:
            case StoryAdded(id=found, event=event) if found == wanted:
                _say(_sentence(event))
            case RedirectionChanged(status=status) if status.id == wanted:
                was_connected |= status.state is RedirectionState.CONNECTED
                if status.state is RedirectionState.BLOCKED and status.trouble is not None:
                    _tell_trouble(status.trouble)
                    if not was_connected:
                        return status.trouble.exit_code
            case _:
                pass
    return ExitCode.OK


async def _end_at_signal(service: Service, signals: asyncio.Queue[signal.Signals]) -> int:
    """End the service when a signal comes; return the exit status."""
    number = await signals.get()
    await _end(service, signals, asks=number is signal.SIGINT)
    return ExitCode.INTERRUPTED if number is signal.SIGINT else 128 + number


async def _end(service: Service, signals: asyncio.Queue[signal.Signals], *, asks: bool) -> None:
    """End the service as soon as that breaks nothing.

    Args:
        service: The service.
        signals: Those that come meanwhile.
        asks: Whether the user is asked when the wait is over.
    """
    for risk in service.exit_risks():
        _say(
            f"{risk.vmi}, slot {risk.slot}: waiting for {risk.waits_for}, "
            f"{SHUTDOWN_WAIT_S:.0f} s at most"
        )
    waited = False
    while True:
        async with asyncio.TaskGroup() as group:
            shutdown = group.create_task(service.shutdown(), name="shutdown")
            breaking = group.create_task(
                _asked_to_break(service, signals, at_once=waited), name="ask"
            )
            await asyncio.wait([shutdown, breaking], return_when=asyncio.FIRST_COMPLETED)
            safe = shutdown.done()
            shutdown.cancel()
            breaking.cancel()
        if not safe or not shutdown.result():
            return
        waited = True
        if not asks or not _somebody_is_there():
            _explain(shutdown.result())
            _say("ending all the same: it has waited as long as a signal may wait")
            return


async def _asked_to_break(
    service: Service, signals: asyncio.Queue[signal.Signals], *, at_once: bool
) -> None:
    """Return when ending now breaks nothing, or the user says that it is worth it.

    Asked at each signal, and again at no signal that came before the answer.
    """
    while True:
        if not at_once:
            await signals.get()
        at_once = False
        if not (risks := service.exit_risks()):
            return
        _explain(risks)
        if _somebody_is_there():
            if await _confirmed():
                return
            _say("going on to wait")
        while not signals.empty():
            signals.get_nowait()


def _explain(risks: Sequence[ExitRisk]) -> None:
    for risk in risks:
        _say(f"{risk.vmi}, slot {risk.slot}: {risk.harm}; it waits for {risk.waits_for}")


def _somebody_is_there() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


async def _confirmed() -> bool:
    """Ask on the terminal; unlike click's question this one can be cancelled."""
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    try:
        # What was typed before the question does not answer it; what comes after it does.
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
        _say("End now all the same? [y/N]: ", end=False)
        loop.add_reader(sys.stdin.fileno(), answered.set)
        try:
            await answered.wait()
        finally:
            loop.remove_reader(sys.stdin.fileno())
        return sys.stdin.readline().strip().lower() in ("y", "yes")
    except (OSError, termios.error):  # the terminal is gone
        return False


def _sentence(event: StoryEvent) -> str:
    text = f"{event.state}: {event.cause}" if event.cause else str(event.state)
    if (handover := event.handover) is not None:
        text += (
            f" ({handover.kind} handover, {handover.source_node} to {handover.target_node}, "
            f"link gap {handover.link_gap_ms:.0f} ms)"
        )
    return f"{time.strftime('%H:%M:%S', time.localtime(event.time))} {text}"


def _tell_trouble(trouble: Trouble) -> None:
    _say(f"error: {trouble.message}")
    if trouble.hint:
        for line in f"hint: {trouble.hint}".splitlines():
            _say(line)


def _say(text: str, *, end: bool = True) -> None:
    try:
        click.echo(printable(text), err=True, nl=end)
    except OSError:
        # The terminal has hung up, or the same ctrl-c has ended what our messages are piped to.
        # That is no reason to end what waits for the gate.
        abandon(sys.stderr)
