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

from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.interface import RedirectionStatus
from tests.support.faults import Kind, faults
from tests.support.faults_accounts import Account
from tests.support.faults_report import Outcome, report
from tests.support.faults_run import a_run
from tests.support.faults_secrets import found_in
from tests.support.faults_world import PAYLOAD, a_world

SECONDS: Final = int(os.environ.get("VMREDIR_FAULTS_SECONDS", "15"))
SEED: Final = int(os.environ.get("VMREDIR_FAULTS_SEED", "1"))
VMS: Final = int(os.environ.get("VMREDIR_FAULTS_VMS", "4"))
"""With four redirections each."""

LIMIT_S: Final = 60.0
"""For what takes a few seconds on a machine that has nothing else to do."""
BLOCKED_RETRY_S: Final = 120.0
"""A redirection that was blocked looks again after that time, whatever it sees."""
BELIEVED_S: Final = 75.0
"""A dial that was allowed before is tried for a minute, and one delay, before a refusal counts."""
LONG_S: Final = 60
"""A run of at least so many seconds waits for that."""

MEMORY_GROWTH: Final = 1.3
"""Of the last quarter of the run over its first half: memory that was freed has holes."""
OBJECTS_LEFT: Final = 3000
"""Caches are not full from the first day on."""
MALLOC_LEFT: Final = 4 << 20
"""In bytes: a single connection has a megabyte of buffers."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path that is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="vmredir-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The lab has a lot to tell of what is done to it."""
    for name in ("kubectl_vmredir", "aiohttp", "asyncio"):
        caplog.set_level(logging.CRITICAL, logger=name)


def is_connected(status: RedirectionStatus) -> bool:
    return status.state is RedirectionState.CONNECTED


def needs_login(status: RedirectionStatus) -> bool:
    return (
        status.state is RedirectionState.BLOCKED
        and status.trouble is not None
        and status.trouble.kind == "LoginRequired"
    )


async def test_all_come_back_from_every_fault_and_nothing_is_left(folder: Path) -> None:
    async with a_world(folder, VMS) as world, a_run(world) as run:
        planned = list(faults(SEED, SECONDS, len(world.redirections)))
        # The first time brings what stays: modules, caches, pools.
        await run.bind_all(LIMIT_S)
        await run.unbind_all()
        before = await run.census()

        await run.bind_all(LIMIT_S)
        async with asyncio.TaskGroup() as group:
            measuring = group.create_task(run.measure_memory())
            await world.suffer(planned)
            measuring.cancel()
        back_after_s = await run.all_back(LIMIT_S + BLOCKED_RETRY_S, hurry=SECONDS < LONG_S)

        # Half of them cannot come back, and say so.
        world.accounts.expire(Account.PERSON)
        world.restart_virt_api()
        await run.until(Account.PERSON, needs_login, LIMIT_S + BELIEVED_S)
        await run.until(Account.ROBOT, is_connected, LIMIT_S)
        world.accounts.renew(Account.PERSON)
        await world.restart_api()
        await world.seen_by_guests(LIMIT_S)
        await run.until_connected(LIMIT_S)

        await run.unbind_all()
        after = await run.census_as(before, LIMIT_S)
        last_words = world.last_words()
        await run.stop_agent()
        assert await world.agent.end() == 0

    log = world.agent.log.read_text()
    seen = {
        Kind.TOKEN_EXPIRED: world.accounts.plugin_runs - 1,
        Kind.LOGIN_EXPIRED: run.spectators[Account.PERSON].troubles["LoginRequired"],
        Kind.WATCH_GONE: log.count(" starts over: the API server answered 410"),
    }
    effects = world.effects + Counter(seen)
    outcome = Outcome(planned, effects, back_after_s, before, after, last_words)
    print(report(run, outcome))  # noqa: T201

    assert effects.keys() == set(Kind), "a kind of fault did no harm"
    assert after.objects.total() < before.objects.total() + OBJECTS_LEFT
    assert after.malloc_bytes < before.malloc_bytes + MALLOC_LEFT
    assert max(run.memory_kib[-len(run.memory_kib) // 4 :]) < MEMORY_GROWTH * max(
        run.memory_kib[: len(run.memory_kib) // 2]
    )
    assert re.findall(r"^.* [EC] .*$", log, re.MULTILINE) == []
    assert world.agent.complaints.read_text() == ""
    secrets = [PAYLOAD, *(token.encode() for token in world.accounts.secrets)]
    assert found_in(folder / "agent", secrets) == []
