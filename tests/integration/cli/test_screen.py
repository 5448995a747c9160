"""The program on a real terminal, with the lab's cluster and virtual devices."""

from __future__ import annotations

import json
import os
import signal
from typing import Final

import pytest

from kubectl_vmredir.errors import ExitCode
from tests.support.commands import Cli
from tests.support.terminals import Terminal, on_a_terminal

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENTER: Final = "\r"


async def bind_the_first_device(terminal: Terminal) -> None:
    """Press what it takes, and wait for what comes of it."""
    if "live" not in await terminal.says("Virtual Stick"):
        await terminal.says("live")
    terminal.press(ENTER)
    await terminal.says("move to a slot")
    terminal.press(ENTER)
    await terminal.says("nothing needs it")
    terminal.press(ENTER)
    await terminal.says("● connected")


async def test_a_device_is_bound_with_three_presses_and_given_back_at_a_signal(cli: Cli) -> None:
    arguments = ("--foreground", "--virtual", "-n", "demo")
    async with on_a_terminal(cli, *arguments) as terminal:
        await bind_the_first_device(terminal)

        terminal.terminate()

        assert await terminal.end() == 128 + signal.SIGTERM


async def test_without_a_cluster_it_says_so_and_ends_when_asked(cli: Cli) -> None:
    async with on_a_terminal(cli, "--kubeconfig", "nowhere") as terminal:
        await terminal.says("no cluster")
        terminal.press("q")

        assert await terminal.end() == ExitCode.OK


async def test_what_is_bound_stays_with_the_agent_when_the_program_ends(user: Cli) -> None:
    async with on_a_terminal(user, "--virtual", "-n", "demo") as terminal:
        await bind_the_first_device(terminal)
        terminal.press("q")
        await terminal.says("Keep in background")
        terminal.press(ENTER)
        assert await terminal.end() == ExitCode.OK

    status = await user("status", "--no-headers")

    (row,) = status.rows
    assert "connected" in row


async def test_an_agent_that_is_killed_is_started_again_and_goes_on(user: Cli) -> None:
    async with on_a_terminal(user, "--virtual", "-n", "demo") as terminal:
        await bind_the_first_device(terminal)
        agent = json.loads((await user("agent", "status", "-o", "json")).out)
        os.kill(agent["pid"], signal.SIGKILL)
        await terminal.says("agent gone")
        await terminal.says("live")
        terminal.press("q")
        await terminal.says("Stop all")
        terminal.press("\x1b[C\r")

        assert await terminal.end() == ExitCode.OK
