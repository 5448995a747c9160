"""Many redirections in one agent, and a fault every second: all come back, and nothing is left.

The run is short, and of few redirections, unless ``make faults`` asks for more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kubectl_vmredir.cli.log import quiet_libraries
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.interface import RedirectionStatus
from tests.support.faults import Kind, faults
from tests.support.faults_accounts import Account
from tests.support.faults_process import Census
from tests.support.faults_run import Run, a_run, told
from tests.support.faults_secrets import found_in
from tests.support.faults_world import PAYLOAD, World, a_world

SECONDS: Final = int(os.environ.get("VMREDIR_FAULTS_SECONDS", "15"))
SEED: Final = int(os.environ.get("VMREDIR_FAULTS_SEED", "1"))
VMS: Final = int(os.environ.get("VMREDIR_FAULTS_VMS", "4"))
"""With four redirections each."""

LIMIT_S: Final = 60.0
"""For what takes a few seconds on a machine that has nothing else to do."""
BLOCKED_RETRY_S: Final = 120.0
"""A redirection that was blocked looks again after that time, whatever it sees."""
LONG_S: Final = 60
"""A run of at least so many seconds waits for that."""

WARM_UP_SHARE: Final = 0.3
MEMORY_GROWTH: Final = 1.1
OBJECTS_LEFT: Final = 3000


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path that is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="vmredir-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def quiet() -> None:
    """The lab has a lot to tell of what is done to it."""
    quiet_libraries()
    logging.getLogger("kubectl_vmredir").setLevel(logging.CRITICAL)


def needs_login(status: RedirectionStatus) -> bool:
    return (
        status.state is RedirectionState.BLOCKED
        and status.trouble is not None
        and status.trouble.kind == "LoginRequired"
    )


async def until_as_before(run: Run, before: Census) -> Census:
    """Wait until no task, process or file descriptor is left over."""
    now = before
    try:
        async with asyncio.timeout(LIMIT_S):
            while True:
                now = await run.census()
                if (now.tasks, now.descriptors, now.children) == (
                    before.tasks, before.descriptors, before.children,
                ):  # fmt: skip
                    return now
                await asyncio.sleep(1)
    except TimeoutError:
        raise AssertionError(
            f"left over: tasks {now.tasks - before.tasks}, descriptors "
            f"{now.descriptors - before.descriptors}, processes {now.children}"
        ) from None


async def test_all_come_back_from_every_fault_and_nothing_is_left(folder: Path) -> None:
    async with a_world(folder, VMS) as world, a_run(world) as run:
        loop = asyncio.get_running_loop()
        # The first time brings what stays: modules, caches, pools.
        await run.bind_all(LIMIT_S)
        await run.unbind_all()
        before = await run.census()

        await run.bind_all(LIMIT_S)
        async with asyncio.TaskGroup() as group:
            measuring = group.create_task(run.measure_memory())
            await world.suffer(faults(SEED, SECONDS, len(world.redirections)))
            measuring.cancel()
        ended_at = loop.time()
        await world.calm()
        if SECONDS < LONG_S:
            await world.restart_api()  # what is blocked looks again when its watch is back
        await run.until_connected(LIMIT_S + BLOCKED_RETRY_S)
        back_after_s = loop.time() - ended_at

        # Half of them cannot come back, and say so.
        world.accounts.expire(Account.PERSON)
        world.restart_virt_api()
        await run.until(Account.PERSON, needs_login, LIMIT_S)
        await run.until(
            Account.ROBOT, lambda status: status.state is RedirectionState.CONNECTED, LIMIT_S
        )
        world.accounts.renew(Account.PERSON)
        await world.restart_api()
        await world.seen_by_guests(LIMIT_S)
        await run.until_connected(LIMIT_S)

        await run.unbind_all()
        after = await until_as_before(run, before)
        report(world, run, before, after, back_after_s)
        await run.stop_agent()
        assert await world.agent.end() == 0

    log = world.agent.log.read_text()
    effects = world.effects + Counter(
        {
            Kind.TOKEN_EXPIRED: world.accounts.plugin_runs - 1,
            Kind.LOGIN_EXPIRED: run.spectators[Account.PERSON].troubles["LoginRequired"],
            Kind.WATCH_GONE: log.count(" starts over: the API server answered 410"),
        }
    )
    print(dict(effects))
    assert set(Kind) == effects.keys(), "each kind did harm"
    assert sum(after.objects.values()) < sum(before.objects.values()) + OBJECTS_LEFT
    assert re.findall(r"^.* [EC] .*$", log, re.MULTILINE) == []
    assert world.agent.complaints.read_text() == ""
    secrets = [PAYLOAD, *(token.encode() for token in world.accounts.secrets)]
    assert found_in(folder / "agent", secrets) == []


def report(world: World, run: Run, before: Census, after: Census, back_after_s: float) -> None:
    print(f"back after {back_after_s:.1f} s")
    print("memory", run.memory_kib[::5], before.resident_kib, after.resident_kib)
    print(
        "objects",
        sum(before.objects.values()),
        sum(after.objects.values()),
        (after.objects - before.objects).most_common(10),
    )
    for account, spectator in run.spectators.items():
        print(account, dict(spectator.states), dict(spectator.troubles), spectator.handovers)
    print(world.last_words())
