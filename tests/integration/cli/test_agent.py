"""The agent as a process: started on demand, one of each user, and back after it was killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubectl_vmredir import __version__
from kubectl_vmredir.agent.access import Access
from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.agent.start import reach_agent
from kubectl_vmredir.bootstrap import Options, pinned
from kubectl_vmredir.errors import AgentError, ExitCode
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.model import DeviceSelector, RedirectionId, RedirectionState, VmiRef
from kubectl_vmredir.service.interface import BindRequest
from tests.support.commands import LIMIT_S, Cli

pytestmark = pytest.mark.asyncio(loop_scope="module")

DESK = VmiRef("demo", "desk")
STICK = DeviceSelector.parse("1209:0001:FLASH001")


def modes_below(folder: Path) -> dict[str, int]:
    """Return the permissions of all that is below a folder, by its path there."""
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in folder.rglob("*")
    }


@asynccontextmanager
async def agent_of(lab: Lab) -> AsyncIterator[AgentClient]:
    """Reach the agent, and mean the lab's cluster and the virtual devices."""
    async with reach_agent(Places.of_user()) as line:
        client = AgentClient(line)
        options = pinned(Options(kubeconfig=str(lab.kubeconfig), virtual=True))
        await client.open(Access.here(options, os.environ, Path.cwd()))
        yield client


async def connected(client: AgentClient, redirection_id: RedirectionId) -> None:
    """Wait until a redirection is connected."""
    async with asyncio.timeout(LIMIT_S), client.subscribe() as changes:
        async for _ in changes:
            for view in (await client.snapshot()).redirections:
                if (view.status.id, view.status.state) == (
                    redirection_id,
                    RedirectionState.CONNECTED,
                ):
                    return


async def test_agent_is_started_asked_and_stopped(agent_cli: Cli) -> None:
    before = await agent_cli("agent", "status")
    started = await agent_cli("agent", "run", "--background")
    again = await agent_cli("agent", "run")
    plain, as_json, logs = await agent_cli.each(
        "agent status", "agent status -o json", "agent logs"
    )
    stopped = await agent_cli("agent", "stop")
    after = await agent_cli("agent", "stop")

    assert (before.status, before.err) == (ExitCode.FAILURE, "error: no agent is running\n")
    assert (started.status, started.out, started.err) == (ExitCode.OK, "", "")
    assert (again.status, again.err) == (1, "error: an agent is running already\n")
    assert [row[0] for row in plain.rows] == ["running", "keeps", "clients"]
    told = json.loads(as_json.out)
    assert (told["version"], told["redirections"], told["closing"]) == (__version__, 0, None)
    assert "begins" in logs.out
    assert stopped.status == ExitCode.OK
    assert (after.status, after.err) == (ExitCode.OK, "No agent is running.\n")


async def test_files_of_the_agent_are_for_its_user_only(agent_cli: Cli, home: Path) -> None:
    await agent_cli("agent", "run", "--background")

    modes = modes_below(home)

    assert modes["XDG_RUNTIME_DIR/kubectl-vmredir"] == 0o700
    assert modes["XDG_RUNTIME_DIR/kubectl-vmredir/agent.sock"] == 0o600
    assert modes["XDG_STATE_HOME/kubectl-vmredir/agent.log"] == 0o600
    assert [path for path, mode in modes.items() if mode & 0o077] == []
    await agent_cli("agent", "stop")


async def test_socket_that_a_killed_agent_left_is_replaced(agent_cli: Cli) -> None:
    await agent_cli("agent", "run", "--background")
    killed = json.loads((await agent_cli("agent", "status", "-o", "json")).out)["pid"]
    os.kill(killed, signal.SIGKILL)

    started = await agent_cli("agent", "run", "--background")

    assert started.status == ExitCode.OK
    now = json.loads((await agent_cli("agent", "status", "-o", "json")).out)["pid"]
    assert now != killed
    await agent_cli("agent", "stop")


async def test_signal_ends_the_agent_in_an_orderly_way(agent_cli: Cli, home: Path) -> None:
    async with agent_cli.start("agent", "run") as running:
        await running.says("The agent is ready.")
        running.signal(signal.SIGTERM)
        done = await running.end()

    assert done.status == ExitCode.OK
    assert "XDG_RUNTIME_DIR/kubectl-vmredir/agent.sock" not in modes_below(home)


async def test_clients_that_begin_at_once_start_one_agent(home: Path) -> None:
    async def ask() -> int:
        async with reach_agent(Places.of_user()) as line:
            return (await AgentClient(line).status()).pid

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask()) for _ in range(4)]

    assert len({task.result() for task in tasks}) == 1
    async with reach_agent(Places.of_user()) as line:
        await AgentClient(line).stop()


async def test_agent_that_does_not_start_says_why(home: Path) -> None:
    places = Places.of_user()
    places.prepare()
    places.wishes.write_text('{"schema": 99}')

    with pytest.raises(AgentError, match=r"the agent does not start: .* by a newer version"):
        async with reach_agent(Places.of_user()):
            pass


async def test_redirection_is_back_after_the_agent_was_killed(home: Path, lab: Lab) -> None:
    async with agent_of(lab) as client:
        bound = await client.bind(BindRequest(STICK, DESK))
        await connected(client, bound)
        os.kill((await client.status()).pid, signal.SIGKILL)

    async with agent_of(lab) as client:
        await connected(client, bound)
        (view,) = (await client.snapshot()).redirections
        assert (view.status.id, view.status.slot) == (bound, "flash")

        await client.unbind(bound)
        assert (await client.snapshot()).redirections == ()
        assert await client.stop() == ()


async def test_unit_starts_this_program(agent_cli: Cli) -> None:
    done = await agent_cli("agent", "unit")

    (command,) = [line for line in done.out.splitlines() if line.startswith("ExecStart=")]
    assert command.endswith("-m kubectl_vmredir agent run --keep")
    assert done.status == ExitCode.OK
