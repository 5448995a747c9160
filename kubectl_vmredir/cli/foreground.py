"""A redirection that lives as long as a command does, and how a signal ends it.

The first signal asks for an orderly end, which waits for the gate (docs/migration.md), and says
so. At a second one it is said what ending now may break, and asked, if there is somebody to ask.
When a minute is over a ctrl-c asks as well; the other signals end the command.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from kubectl_vmredir.cli.asking import answer_to, somebody_is_there
from kubectl_vmredir.cli.diagnostics import say
from kubectl_vmredir.cli.following import Follower
from kubectl_vmredir.cli.run import SIGNALS
from kubectl_vmredir.cli.trial import try_out
from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.service.interface import SHUTDOWN_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.service.interface import BindRequest, ExitRisk
    from kubectl_vmredir.service.service import Service


async def keep_bound(service: Service, request: BindRequest) -> int:
    """Bind, tell what happens on stderr, and stay until a signal ends it.

    Returns:
        The exit status: that of the trouble if the device never got into the VM because of
        something that a person must cure; failure if it came back because nobody confirmed that
        it may stay there; else that of the signal.

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
            follower = Follower(redirection)
            following = group.create_task(follower.follow(changes), name="follow")
            asking = group.create_task(try_out(service, redirection, follower), name="try-out")
            signalled = group.create_task(signals.get(), name="signal")
            await asyncio.wait([following, signalled], return_when=asyncio.FIRST_COMPLETED)
            asking.cancel()  # there may be another question to ask
            if not signalled.done():
                signalled.cancel()
                await _end(service, signals, asks=False)
                return following.result()
            number = signalled.result()
            await _end(service, signals, asks=number is signal.SIGINT)
            following.cancel()
            return ExitCode.INTERRUPTED if number is signal.SIGINT else 128 + number
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)


async def _end(service: Service, signals: asyncio.Queue[signal.Signals], *, asks: bool) -> None:
    """End the service as soon as that breaks nothing.

    Args:
        service: The service.
        signals: Those that come meanwhile.
        asks: Whether the user is asked when the wait is over.
    """
    for risk in service.exit_risks():
        say(
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
        if not asks or not somebody_is_there():
            _explain(shutdown.result())
            say("ending all the same: it has waited as long as a signal may wait")
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
        if somebody_is_there():
            if await answer_to("End now all the same? [y/N]: ") in ("y", "yes"):
                return
            say("going on to wait")
        while not signals.empty():
            signals.get_nowait()


def _explain(risks: Sequence[ExitRisk]) -> None:
    for risk in risks:
        say(f"{risk.vmi}, slot {risk.slot}: {risk.harm}; it waits for {risk.waits_for}")
