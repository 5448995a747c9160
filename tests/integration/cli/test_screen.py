"""The program on a real terminal, with the lab's cluster and virtual devices."""

from __future__ import annotations

import signal
from typing import Final

import pytest

from kubectl_vmredir.errors import ExitCode
from tests.support.commands import Cli
from tests.support.terminals import on_a_terminal

pytestmark = pytest.mark.asyncio(loop_scope="module")

ENTER: Final = "\r"


async def test_a_device_is_bound_with_three_presses_and_given_back_at_a_signal(cli: Cli) -> None:
    async with on_a_terminal(cli, "--virtual", "-n", "demo") as terminal:
        await terminal.says("Virtual Stick")
        await terminal.says("live")
        terminal.press(ENTER)
        await terminal.says("move to a slot")
        terminal.press(ENTER)
        await terminal.says("nothing needs it")
        terminal.press(ENTER)
        await terminal.says("● connected")

        terminal.terminate()

        assert await terminal.end() == 128 + signal.SIGTERM


async def test_without_a_cluster_it_says_so_and_ends_when_asked(cli: Cli) -> None:
    async with on_a_terminal(cli, "--kubeconfig", "nowhere") as terminal:
        await terminal.says("no cluster")
        terminal.press("q")

        assert await terminal.end() == ExitCode.OK
