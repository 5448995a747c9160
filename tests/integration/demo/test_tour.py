"""docs/tour.md, key by key, in tmux."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kubectl_vmredir.tui.screens.dialog import DEAF_S
from tests.support.commands import Cli
from tests.support.tmux import Screen, in_tmux

pytestmark = pytest.mark.terminal


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command of a user whose kubeconfig blocks whoever reads it."""
    os.mkfifo(tmp_path / "kubeconfig")
    (tmp_path / "tmp").mkdir()
    variables = {"KUBECONFIG": str(tmp_path / "kubeconfig"), "TMPDIR": str(tmp_path / "tmp")}
    return Cli(tmp_path, variables)


async def accept(screen: Screen) -> None:
    """Choose what a dangerous dialog offers, once it hears: nothing on the screen tells when."""
    await asyncio.sleep(2 * DEAF_S)
    await screen.press("Right", "Enter")


async def test_ctrl_z_stops_the_job_that_it_is_part_of_and_fg_goes_on(cli: Cli) -> None:
    job = "bash -mc 'sh -c \"{}; exit\"; echo stopped; read; fg'"
    async with in_tmux(cli, "demo", "--backend", "sim", size=(80, 24), below=job) as screen:
        await screen.sees("Virtual Stick FLASH001", "● live")
        await screen.press("C-z")
        await screen.sees("stopped")
        await screen.press("Enter")
        await screen.sees("Virtual Stick FLASH001", "● live")
        await screen.press("q")
        await screen.sees("status 0")


async def test_ctrl_z_is_nothing_where_no_shell_could_go_on(cli: Cli) -> None:
    async with in_tmux(cli, "demo", "--backend", "sim", size=(80, 24)) as screen:
        await screen.sees("Virtual Stick FLASH001", "● live")
        await screen.press("C-z", "?")
        await screen.sees("Plug in: choose a device")
        await screen.press("Escape")
        await screen.sees("2 VMs and slots")
        await screen.press("q")
        await screen.sees("status 0")


@pytest.mark.parametrize("size", [(80, 24), (140, 40)], ids=["80x24", "140x40"])
async def test_the_tour(cli: Cli, size: tuple[int, int]) -> None:
    async with in_tmux(cli, "demo", "--backend", "sim", size=size) as screen:
        await screen.sees("Virtual Stick FLASH001", "enter enter enter", "● live")
        await screen.press("Enter")
        await screen.sees("move to a slot and press enter", "smartcard")
        await screen.press("Enter")
        await screen.sees("demo/fedora slot flash", "nothing needs it")
        await screen.press("Enter")
        await screen.sees("● connected")

        await screen.press("m")
        await screen.sees("Migrate demo/fedora", "cold handover")
        await accept(screen)
        await screen.sees("⇄ migrating")
        await screen.press("3")
        await screen.sees("cold handover", "migrations survived 1")
        await screen.press("d")
        await screen.sees("Story, latest first")
        await screen.press("Escape")
        await screen.sees("WHAT HAPPENED")

        await screen.press("2")
        await screen.press("u")
        await screen.sees("pulled the plug")
        await accept(screen)
        await screen.sees("is free again")
        await screen.press("q")
        await screen.sees("status 0")

    assert list((cli.home / "tmp").iterdir()) == []
