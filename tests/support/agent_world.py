"""An agent in this process, and services that are reached through its socket."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

from kubectl_vmredir.agent.access import Access
from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.line import Line, connect
from kubectl_vmredir.agent.places import listen
from kubectl_vmredir.agent.server import AgentServer
from kubectl_vmredir.agent.wishes import Wishes
from kubectl_vmredir.bootstrap import Connection, Options
from kubectl_vmredir.errors import AgentGone, ClusterError, VmRedirError
from kubectl_vmredir.model import Identity, RedirectionId, VmiView
from kubectl_vmredir.service.interface import ExitRisk
from kubectl_vmredir.service.service import Service
from tests.support.fake_cluster import ALICE
from tests.support.fake_usb import FakeDevices
from tests.support.service_world import World, a_world

NOBODY = Access(Options(), {})


async def at_once(work: Callable[[], None]) -> None:
    """Block: no thread is waited for by a clock that jumps."""
    work()


def wishes_in(folder: Path) -> Wishes:
    """Return the wishes of a folder, written and read without a thread."""
    return Wishes(folder / "wishes", run=at_once, wall_clock=lambda: 7.0)


@asynccontextmanager
async def serving(server: AgentServer) -> AsyncIterator[Path]:
    """Serve on a socket, whose path is returned; short enough for any system."""
    with tempfile.TemporaryDirectory(prefix="vmredir-") as folder:
        path = Path(folder, "socket")
        group = asyncio.TaskGroup()
        await group.__aenter__()
        task = group.create_task(server.serve(listen(path)), name="serve")
        try:
            yield path
        finally:
            task.cancel()
            await group.__aexit__(None, None, None)


class ReachedService(AgentClient):
    """A service through a socket, whose owner, the test, can end it."""

    def __init__(self, line: Line, service: Service) -> None:
        super().__init__(line)
        self._service = service

    async def unbind(self, redirection_id: RedirectionId) -> None:
        try:
            await super().unbind(redirection_id)
        except AgentGone as gone:
            # Who waits for a service of this process is cancelled when it ends.
            raise asyncio.CancelledError from gone

    async def shutdown(self, deadline_s: float = 60.0) -> tuple[ExitRisk, ...]:
        return await self._service.shutdown(deadline_s)

    def exit_risks(self) -> tuple[ExitRisk, ...]:
        return self._service.exit_risks()


@asynccontextmanager
async def through_a_socket() -> AsyncIterator[Callable[[Service], Awaitable[Service]]]:
    """Return what takes a service, and returns it as its clients see it."""
    async with AsyncExitStack() as stack:

        async def reach(service: Service) -> Service:
            @asynccontextmanager
            async def open_service(access: Access) -> AsyncIterator[Connection]:
                yield Connection(service, "demo")

            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vmredir-"))
            server = AgentServer(open_service, wishes_in(Path(folder)), idle_s=None)
            path = await stack.enter_async_context(serving(server))
            line, _ = await stack.enter_async_context(connect(path))
            reached = ReachedService(line, service)
            await reached.open(NOBODY)
            return cast("Service", reached)

        yield reach


class Worlds:
    """Opens services for an agent, each in a world of fakes.

    Attributes:
        open: The worlds of the services that are open, in the order of their opening.
        refusal: Raised instead of opening one.
        seen: The variables that each service was opened with; changed by its later users.
        vmis: Those of the clusters; none for the usual one.
        devices: Makes the devices of each world; None for the usual ones.
        me: Who the user is to the clusters; an error is raised instead of said.
    """

    def __init__(self) -> None:
        self.open: list[World] = []
        self.refusal: VmRedirError | None = None
        self.seen: list[Mapping[str, str]] = []
        self.vmis: tuple[VmiView, ...] = ()
        self.devices: Callable[[], FakeDevices] | None = None
        self.me: Identity | ClusterError = ALICE

    @asynccontextmanager
    async def __call__(self, access: Access) -> AsyncIterator[Connection]:
        if self.refusal is not None:
            raise self.refusal
        self.seen.append(access.environ)
        devices = self.devices() if self.devices is not None else None
        async with a_world(*self.vmis, devices=devices) as world:
            world.cluster.me = self.me
            self.open.append(world)
            try:
                yield Connection(world.service, "demo")
            finally:
                self.open.remove(world)


@asynccontextmanager
async def client_of(path: Path, access: Access | None = NOBODY) -> AsyncIterator[AgentClient]:
    """Connect to an agent, and choose a service unless there is nothing to choose by."""
    async with connect(path) as (line, _):
        client = AgentClient(line)
        if access is not None:
            await client.open(access)
        yield client
