"""The agent as a process of its own, in a home of its own, and a VM that tells what it sees."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from kubectl_vmredir.agent.access import Access
from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.line import connect
from kubectl_vmredir.agent.messages import Hello
from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.agent.start import reach_agent
from kubectl_vmredir.bootstrap import Options, pinned
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.console import follow_console
from kubectl_vmredir.lab.guests.report import ConsoleReader, Fact
from kubectl_vmredir.model import RedirectionId, RedirectionState, VmiRef
from kubectl_vmredir.service.interface import RedirectionStatus
from tests.support.commands import LIMIT_S

_ROOT: Final = Path(__file__).parents[2]

_Fact = TypeVar("_Fact", bound=Fact)


@asynccontextmanager
async def client_for(
    kubeconfig: Path, *, verbosity: int = 0, environ: Mapping[str, str] | None = None
) -> AsyncIterator[AgentClient]:
    """Reach the agent, starting it if need be, and mean a cluster and the virtual devices."""
    async with reach_agent(Places.of_user(), verbosity=verbosity) as line:
        client = AgentClient(line)
        await client.open(access_to(kubeconfig, environ))
        yield client


def access_to(kubeconfig: Path, environ: Mapping[str, str] | None = None) -> Access:
    """Return what a command in a shell with these variables would mean."""
    options = pinned(Options(kubeconfig=str(kubeconfig), virtual=True))
    found = Access.here(options, os.environ, Path.cwd())
    return found if environ is None else replace(found, environ={**found.environ, **environ})


async def hello_of_agent() -> Hello:
    """Return how the agent that runs introduces itself."""
    async with connect(Places.of_user().socket) as (_, hello):
        return hello


async def reaches(
    client: AgentClient, redirection_id: RedirectionId, state: RedirectionState
) -> RedirectionStatus:
    """Wait until a redirection is in a state, and return how it is then."""
    async with asyncio.timeout(LIMIT_S), client.subscribe() as changes:
        async for _ in changes:
            for view in (await client.snapshot()).redirections:
                if (view.status.id, view.status.state) == (redirection_id, state):
                    return view.status
    raise AssertionError("the service ended")


@asynccontextmanager
async def other_agent(version: str, protocol: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an agent that says it is of this version; killed at the end if it is still there."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.other_agent",
        version,
        str(protocol),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            while b"ready" not in (line := await process.stderr.readline()):
                assert line, "it has ended"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class Guest:
    """What the guest of a VM has said so far."""

    def __init__(self) -> None:
        self._facts: list[Fact] = []
        self._changed = asyncio.Condition()

    def of(self, kind: type[_Fact]) -> list[_Fact]:
        """Return the facts of one kind."""
        return [fact for fact in self._facts if isinstance(fact, kind)]

    async def says(self, kind: type[_Fact], count: int) -> list[_Fact]:
        """Wait until there are so many facts of one kind, and return them."""
        async with asyncio.timeout(LIMIT_S), self._changed:
            await self._changed.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)

    async def listen(self, lab: Lab, vmi: VmiRef) -> None:
        """Hear what it says, until cancelled."""
        reader = ConsoleReader()
        async for data in follow_console(lab, vmi):
            async with self._changed:
                self._facts += reader.feed(data)
                self._changed.notify_all()


@asynccontextmanager
async def guest_of(lab: Lab, vmi: VmiRef) -> AsyncIterator[Guest]:
    """Listen to the guest of a VM."""
    guest = Guest()
    async with asyncio.TaskGroup() as group:
        listening = group.create_task(guest.listen(lab, vmi), name="guest")
        yield guest
        listening.cancel()
