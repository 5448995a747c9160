"""The users of a fault run: they bind everything, look on, and take stock."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from kubectl_vmredir.agent.access import Access
from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.line import connect
from kubectl_vmredir.bootstrap import Options
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.interface import BindRequest, RedirectionStatus
from tests.support.faults_accounts import Account
from tests.support.faults_process import Census
from tests.support.faults_spectator import Spectator
from tests.support.faults_world import SLOTS, World

SAMPLE_INTERVAL_S: Final = 1.0
_UNBIND_LIMIT_S: Final = 60.0


class Run:
    """Both users, each with its redirections.

    Attributes:
        spectators: What they see.
        memory_kib: Memory of the agent, each second while it is measured.

    Args:
        world: What it is all about.
        clients: Of the agent.
    """

    def __init__(self, world: World, clients: Mapping[Account, AgentClient]) -> None:
        self.spectators = {account: Spectator() for account in Account}
        self.memory_kib: list[int] = []
        self._world = world
        self._clients = clients

    async def bind_all(self, limit_s: float) -> None:
        """Bind all devices; returns when they are connected."""
        async with asyncio.TaskGroup() as group:
            for account in Account:
                group.create_task(self._bind(account))
        await self.until_connected(limit_s)

    async def unbind_all(self) -> None:
        """Unbind them; returns when the devices are given back."""
        async with asyncio.timeout(_UNBIND_LIMIT_S), asyncio.TaskGroup() as group:
            for account, client in self._clients.items():
                for status in self.spectators[account].statuses:
                    group.create_task(client.unbind(status.id))

    async def all_back(self, limit_s: float, *, hurry: bool) -> float:
        """Wait until no VM moves, and all are connected; return how long that took, in seconds.

        Args:
            limit_s: For all to be connected when no VM moves any more.
            hurry: End what watches there are, so that what is blocked looks again at once.
        """
        begun_at = asyncio.get_running_loop().time()
        await self._world.calm()
        if hurry:
            await self._world.restart_api()
        await self.until_connected(limit_s)
        return asyncio.get_running_loop().time() - begun_at

    async def until_connected(self, limit_s: float) -> None:
        """Wait until all are connected."""
        for account in Account:
            await self.until(account, lambda status: status.state is CONNECTED, limit_s)

    async def until(
        self, account: Account, condition: Callable[[RedirectionStatus], bool], limit_s: float
    ) -> None:
        """Wait until something is so for all redirections of a user."""
        count = sum(self._world.account(number) is account for number in self._world.redirections)
        spectator = self.spectators[account]
        try:
            await spectator.until(
                lambda statuses: len(statuses) == count and all(map(condition, statuses)), limit_s
            )
        except TimeoutError:
            late = [status for status in spectator.statuses if not condition(status)]
            raise AssertionError(f"not so after {limit_s} s, but {told(late)}") from None

    async def measure_memory(self) -> None:
        """Measure, until cancelled."""
        while True:
            self.memory_kib.append(self._world.agent.resident_kib)
            await asyncio.sleep(SAMPLE_INTERVAL_S)

    async def census(self) -> Census:
        """Count what there is of the agent at rest: what is kept for the next request is old."""
        for client in self._clients.values():
            await client.vmis("demo")
        return await self._world.agent.census()

    async def census_as(self, before: Census, limit_s: float) -> Census:
        """Wait until there is no other task, file descriptor or process than before."""
        now = before
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    now = await self.census()
                    if now.is_staffed_as(before):
                        return now
                    await asyncio.sleep(SAMPLE_INTERVAL_S)
        except TimeoutError:
            left = now.tasks - before.tasks, now.descriptors - before.descriptors, now.children
            raise AssertionError(f"left over: tasks, descriptors, processes {left}") from None

    async def stop_agent(self) -> None:
        """End the agent."""
        assert await self._clients[Account.ROBOT].stop() == ()

    async def _bind(self, account: Account) -> None:
        for number in self._world.redirections:
            if self._world.account(number) is account:
                slot = SLOTS[number % len(SLOTS)]
                await self._clients[account].bind(
                    BindRequest(self._world.device(number), self._world.vm(number), slot)
                )


CONNECTED: Final = RedirectionState.CONNECTED


def told(statuses: Sequence[RedirectionStatus]) -> str:
    """Return how redirections stand, for people."""
    return "; ".join(
        f"{status.id} of {status.vmi}: {status.state}: {status.reason}" for status in statuses
    )


@asynccontextmanager
async def a_run(world: World) -> AsyncIterator[Run]:
    """Let two users reach the agent, and look on."""
    async with AsyncExitStack() as stack:
        clients = {}
        for account in Account:
            line, _ = await stack.enter_async_context(connect(world.agent.places.socket))
            clients[account] = AgentClient(line)
            options = Options(kubeconfig=str(world.accounts.kubeconfig), context=account)
            await clients[account].open(Access(options, {"PATH": os.environ["PATH"]}))
        run = Run(world, clients)
        group = await stack.enter_async_context(asyncio.TaskGroup())
        following = [
            group.create_task(run.spectators[account].follow(clients[account]))
            for account in Account
        ]
        yield run
        for task in following:
            task.cancel()
