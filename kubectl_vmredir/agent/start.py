"""Starts the agent for a client that needs it; one of an older version is taken over from."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from kubectl_vmredir import __version__
from kubectl_vmredir.agent.line import connect
from kubectl_vmredir.agent.messages import PROTOCOL
from kubectl_vmredir.agent.takeover import take_over
from kubectl_vmredir.errors import AgentError, AgentGone
from kubectl_vmredir.program import program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kubectl_vmredir.agent.line import Line
    from kubectl_vmredir.agent.places import Places

START_TIMEOUT_S: Final = 30.0
"""A program that is not in the page cache yet takes seconds to begin."""

_MAX_COMPLAINT: Final = 500


@asynccontextmanager
async def reach_agent(places: Places, *, verbosity: int = 0) -> AsyncIterator[Line]:
    """Begin a conversation with the agent of this version, which is started if it is not there.

    Args:
        places: Its files.
        verbosity: How much it writes into its log, if it is started now: ``-v`` of ``agent run``.

    Raises:
        AgentError: If it cannot be started.
        OtherVersion: If one of a newer version runs, or an older one cannot be ended now.
    """
    places.prepare()
    async with _only_starter(places):
        if not await _runs(places):
            await _start(verbosity)
    async with connect(places.socket) as (line, _):
        yield line


async def _runs(places: Places) -> bool:
    try:
        async with connect(places.socket) as (line, hello):
            if (hello.protocol, hello.version) == (PROTOCOL, __version__):
                return True
            await take_over(places.socket, line, hello)
    except AgentGone:
        pass
    return False


async def _start(verbosity: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *program(),
        "agent",
        "run",
        "--background",
        f"--v={verbosity}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # a ctrl-c is not for it
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            _, complaint = await process.communicate()
    except TimeoutError as exc:
        process.kill()
        await process.wait()
        raise AgentError(f"the agent has not started after {START_TIMEOUT_S:.0f} s") from exc
    if process.returncode != 0:
        text = complaint.decode(errors="replace").strip().removeprefix("error: ")
        raise AgentError(f"the agent does not start: {text[:_MAX_COMPLAINT]}")


@asynccontextmanager
async def _only_starter(places: Places) -> AsyncIterator[None]:
    """Have one client at a time look for the agent, and start it."""
    lock = os.open(places.start_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
