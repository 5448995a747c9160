"""The agent as a process: one of each user, with a log, until nobody needs it or a signal comes."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from kubectl_vmredir import __version__
from kubectl_vmredir.agent.memory import collect_seldom, return_large_buffers
from kubectl_vmredir.agent.places import is_listening, listen
from kubectl_vmredir.agent.server import AgentServer
from kubectl_vmredir.agent.wishes import Wishes
from kubectl_vmredir.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from kubectl_vmredir.agent.places import Places
    from kubectl_vmredir.agent.services import OpenService

logger = logging.getLogger(__name__)

LOCK_WAIT_S: Final = 10.0
"""How long an agent that begins waits for one that is just ending."""


async def run_agent(
    places: Places,
    open_service: OpenService,
    *,
    idle_s: float | None,
    ready: Callable[[], None],
) -> None:
    """Be the agent of a user. A SIGTERM or SIGINT is ``stop``, a second SIGINT forces it.

    A SIGTERM never forces: two newer agents may want to take over, one after the other.

    Args:
        places: Its files; whoever calls this has made the folders, and is the only agent.
        open_service: Opens a service.
        idle_s: How long to stay when nobody needs it; None for ever.
        ready: Called when clients can connect.

    Raises:
        AgentError: If its files cannot be used.
    """
    return_large_buffers()
    server = AgentServer(open_service, Wishes(places.wishes), idle_s=idle_s)
    listening = listen(places.socket)
    loop = asyncio.get_running_loop()
    stops: list[asyncio.Task[object]] = []
    try:
        async with asyncio.TaskGroup() as group:

            def stop(number: signal.Signals) -> None:
                if not stops or number is signal.SIGINT:
                    work = server.stop(force=bool(stops))
                    stops.append(group.create_task(work, name="stop-at-signal"))

            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop, number)
            logger.info("agent %s of version %s begins", os.getpid(), __version__)
            collect_seldom()
            await server.serve(listening, ready)
            for task in stops:
                task.cancel()
    finally:
        places.socket.unlink(missing_ok=True)
        logger.info("agent %s ends", os.getpid())


@contextmanager
def the_only_agent(places: Places, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Be the one agent of a user; the lock ends with the process, however that ends. Blocks.

    Args:
        places: Its files; the folders are made.
        wait_s: How long to wait for one that is there.

    Raises:
        AgentError: If another one is, and stays.
    """
    places.prepare()
    lock = os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not is_listening(places.socket):
            with contextlib.suppress(_Late), _alarm(wait_s):
                fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise AgentError("an agent is running already") from exc
        yield
    finally:
        os.close(lock)


class _Late(Exception):
    """The time to wait is over."""


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
