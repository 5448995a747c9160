"""Takes over from an agent of an older version: it ends, and what it kept up is gone on with.

The newer one wins. An agent that speaks our protocol is asked to end; any other gets a SIGTERM,
which means the same. Either way it waits until its end harms no VM, and so do we, for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from kubectl_vmredir import __version__
from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.line import connect
from kubectl_vmredir.agent.messages import PROTOCOL
from kubectl_vmredir.errors import AgentGone, OtherVersion
from kubectl_vmredir.service.interface import SHUTDOWN_WAIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kubectl_vmredir.agent.line import Line
    from kubectl_vmredir.agent.messages import Hello
    from kubectl_vmredir.service.interface import ExitRisk

logger = logging.getLogger(__name__)

END_TIMEOUT_S: Final = SHUTDOWN_WAIT_S + 15.0
"""How long the end of an agent is waited for: as long as it waits for the gate, and some more."""

_VERSION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})*)(.*)", re.DOTALL)


async def take_over(path: Path, line: Line, hello: Hello) -> None:
    """Return when the agent at the other end of a line, which is of another version, has ended.

    Args:
        path: Its socket.
        line: To it.
        hello: What it said of itself.

    Raises:
        OtherVersion: If it is newer, or cannot end now.
    """
    _check_older(line, hello)
    logger.warning(
        "agent %s is of version %s, this is %s: taking over from it",
        line.agent_pid,
        hello.version,
        __version__,
    )
    with contextlib.suppress(AgentGone, ProcessLookupError), _process(line.agent_pid) as process:
        async with connect(path) as (again, _):
            if again.agent_pid != line.agent_pid:
                return
        # The agent lived when its number was looked up: what we hold is no other process.
        if hello.protocol == PROTOCOL:
            await _ask(line, hello)
        else:
            signal.pidfd_send_signal(process, signal.SIGTERM)
        await _end_of(process, hello)


def _check_older(line: Line, hello: Hello) -> None:
    if (order_of(hello.version), hello.protocol) < (order_of(__version__), PROTOCOL):
        return
    speaks = hello.protocol == PROTOCOL
    command = "kubectl vmredir agent stop" if speaks else f"kill {line.agent_pid}"
    raise OtherVersion(
        f"the agent that runs is of version {hello.version}, this is {__version__}",
        hint=f"Use that version, or end the agent first: {command}",
    )


def order_of(version: str) -> tuple[tuple[int, ...], bool, str]:
    """Return what tells older versions from newer ones: numbers, then no suffix (dev, rc) last.

    What is no version at all counts as newer than any.
    """
    if (found := _VERSION.fullmatch(version)) is None:
        return (1 << 32,), True, version
    numbers, suffix = found.groups()
    return tuple(map(int, numbers.split("."))), not suffix, suffix


async def _ask(line: Line, hello: Hello) -> None:
    risks: tuple[ExitRisk, ...] = ()
    with contextlib.suppress(AgentGone):  # it may end before it has answered
        risks = await AgentClient(line).stop()
    if risks:
        raise OtherVersion(
            f"an agent of version {hello.version} still runs, this is {__version__}: it waits "
            f"for {risks[0].waits_for}",
            hint="Try again in a minute.",
        )


@contextmanager
def _process(pid: int) -> Iterator[int]:
    """Hold a process by a descriptor, which stays its own whoever gets its number then.

    Raises:
        ProcessLookupError: If there is none.
    """
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


async def _end_of(process: int, hello: Hello) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process, ended.set)  # pidfd_open(2): readable when it has ended
    try:
        async with asyncio.timeout(END_TIMEOUT_S):
            await ended.wait()
    except TimeoutError as exc:
        raise OtherVersion(
            f"an agent of version {hello.version} still runs, this is {__version__}: it was asked "
            "to end, and waits until that harms no VM",
            hint="Try again in a minute.",
        ) from exc
    finally:
        loop.remove_reader(process)
