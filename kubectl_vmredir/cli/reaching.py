"""Where a command finds its service: in the agent, or in this process."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kubectl_vmredir import __version__
from kubectl_vmredir.agent.access import Access
from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.line import connect
from kubectl_vmredir.agent.places import Places, is_listening
from kubectl_vmredir.agent.start import reach_agent
from kubectl_vmredir.agent.wishes import anything_wanted
from kubectl_vmredir.bootstrap import open_service, pinned
from kubectl_vmredir.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kubectl_vmredir.agent.control import ServiceId
    from kubectl_vmredir.bootstrap import Options
    from kubectl_vmredir.service.interface import RedirectionService


@dataclass(frozen=True, slots=True)
class Reached:
    """A service, wherever it is.

    Attributes:
        service: The service.
        namespace: The namespace that is meant where none is named.
    """

    service: RedirectionService
    namespace: str


@asynccontextmanager
async def service_in_agent(options: Options, *, verbosity: int = 0) -> AsyncIterator[Reached]:
    """Reach the service that is meant in the agent, which is started if it does not run.

    Args:
        options: What the user said.
        verbosity: How much the agent writes into its log, if it is started now.

    Raises:
        VmRedirError: If the agent or the service cannot be had.
    """
    access = _access(options)
    async with agent_running(verbosity=verbosity) as client:
        yield Reached(client, await client.open(access))


@asynccontextmanager
async def service_anywhere(options: Options) -> AsyncIterator[Reached]:
    """Reach the service that is meant in the agent if one runs, so that all it does is seen.

    Where none runs the service is in this process: nothing is started only to look.

    Raises:
        VmRedirError: If the service cannot be had.
    """
    async with AsyncExitStack() as stack:
        client = await running_agent(stack)
        if client is None or options.request_timeout_s is not None:  # which is not the agent's
            connection = await stack.enter_async_context(open_service(options))
            yield Reached(connection.service, connection.namespace)
        else:
            yield Reached(client, await client.open(_access(options)))


@asynccontextmanager
async def agent_if_needed(*, verbosity: int = 0) -> AsyncIterator[AgentClient | None]:
    """Reach the agent, which is started if something is wanted of it; None if nothing is.

    Args:
        verbosity: How much the agent writes into its log, if it is started now.

    Raises:
        AgentError: If it cannot be reached.
    """
    if agent_is_needed():
        async with agent_running(verbosity=verbosity) as client:
            yield client
    else:
        yield None


@asynccontextmanager
async def agent_running(*, verbosity: int = 0) -> AsyncIterator[AgentClient]:
    """Reach the agent, which is started if it does not run.

    Args:
        verbosity: How much the agent writes into its log, if it is started now.

    Raises:
        AgentError: If it cannot be reached.
    """
    async with reach_agent(Places.of_user(), verbosity=verbosity) as line:
        yield AgentClient(line)


def agent_is_needed() -> bool:
    """Return whether an agent runs, or should, as something is wanted of it. Blocks."""
    places = Places.of_user()
    return is_listening(places.socket) or anything_wanted(places.wishes)


@asynccontextmanager
async def adopted(service: ServiceId) -> AsyncIterator[AgentClient]:
    """Reach a service that the agent is at work with.

    Raises:
        VmRedirError: If there is none, or it is in trouble.
    """
    async with connect(Places.of_user().socket) as (line, _):
        client = AgentClient(line)
        await client.adopt(service)
        yield client


def _access(options: Options) -> Access:
    """Return which service of the agent is meant here; a limit for this command is not for that.

    Raises:
        VmRedirError: If the kubeconfig or the lab cannot be used.
    """
    lasting = replace(options, request_timeout_s=None)
    return Access.here(pinned(lasting), os.environ, Path.cwd())


async def running_agent(stack: AsyncExitStack) -> AgentClient | None:
    """Return the agent if one of this version runs; reached for as long as the stack is entered."""
    try:
        line, hello = await stack.enter_async_context(connect(Places.of_user().socket))
    except AgentError:
        return None
    return AgentClient(line) if hello.version == __version__ else None
