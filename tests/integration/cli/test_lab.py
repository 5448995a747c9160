"""``lab up``: with a command, with a shell, in the background, in processes of its own."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from kubectl_vmredir.errors import ExitCode
from tests.support.commands import Cli
from tests.support.terminals import CTRL_C, on_a_terminal

VMREDIR = f"{sys.executable} -m kubectl_vmredir"
SLOTS = ["fedora/flash", "fedora/token", "fedora/usb2", "fedora/usb3", "win11/smartcard"]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command of a user whose kubeconfig blocks whoever reads it."""
    os.mkfifo(tmp_path / "kubeconfig")
    return Cli(tmp_path, {"KUBECONFIG": str(tmp_path / "kubeconfig")})


def lab_up(*arguments: str) -> tuple[str, ...]:
    return "lab", "up", "--backend", "sim", *arguments


async def test_command_runs_inside_the_lab_which_ends_with_it(cli: Cli) -> None:
    script = f"{VMREDIR} slots -o name; {VMREDIR} devices -o name; {VMREDIR} lab up; exit 7"

    done = await cli(*lab_up("--", "sh", "-c", script))
    afterwards = await cli("slots", "--lab")

    lines = done.out.split()
    assert lines[: len(SLOTS)] == SLOTS
    assert lines[-5:] == [
        "1209:0001:FLASH001",
        "1209:0001:FLASH002",
        "1209:0002:KEYS001",
        "1209:0003:SERIAL001",
        "0e0f:0004:CARD001",
    ]
    assert done.status == 7
    assert "The lab is up, with sim guests: demo/fedora, demo/win11, demo/plain" in done.err
    assert "error: this is the shell of a lab already" in done.err
    assert (afterwards.status, afterwards.out) == (ExitCode.FAILURE, "")
    assert "error: no lab is running" in afterwards.err


async def test_lab_in_the_background_serves_other_commands_until_a_signal(cli: Cli) -> None:
    async with cli.start(*lab_up()) as lab:
        await lab.says("Contexts: ")
        slots, second = await cli.each(
            "slots --lab -o name --context viewer", "lab up --backend sim -- true"
        )
        async with cli.start(
            "bind", "--lab", "--foreground", "1209:0001:FLASH001", "fedora/flash"
        ) as bind:
            await bind.says("connected: plugged in")
            asked = await cli("migrate", "--lab", "fedora", "--context", "admin", "-o", "name")
            told = await bind.says("(cold handover, node1 to node2, link gap ")
            bind.signal(signal.SIGINT)
            bound = await bind.end()
        lab.signal(signal.SIGTERM)
        done = await lab.end()

    assert slots.out.split()[: len(SLOTS)] == SLOTS
    assert second.status == ExitCode.FAILURE
    assert "error: a lab runs in" in second.err
    assert asked.out.startswith("virtualmachineinstancemigration.kubevirt.io/")
    assert "went with the VM from node1 to node2" in told
    assert bound.status == ExitCode.INTERRUPTED
    assert (done.status, done.out) == (ExitCode.OK, "")


async def test_split_lab_is_the_same_to_its_users(cli: Cli) -> None:
    script = f"{VMREDIR} slots -o name; kill -TERM $$"

    done = await cli(*lab_up("--split", "--nodes", "1", "--", "sh", "-c", script))

    assert done.out.split()[: len(SLOTS)] == SLOTS
    assert done.status == 128 + signal.SIGTERM
    assert "on node1.\n" in done.err


async def test_shell_of_the_lab_on_a_terminal(cli: Cli) -> None:
    cli = Cli(cli.home, {**cli.environment, "SHELL": "/bin/sh", "PS1": "lab> "})
    async with on_a_terminal(cli, *lab_up()) as terminal:
        await terminal.says("lab> ")
        terminal.press("echo $VMREDIR_LAB\n")
        await terminal.says(str(cli.home / ".local/state/kubectl-vmredir/lab"))
        await terminal.says("lab> ")
        terminal.press("cat\n")
        terminal.press("typed\n")
        await terminal.says("typed")  # by the terminal
        await terminal.says("typed")  # by cat
        terminal.press(CTRL_C)
        await terminal.says("lab> ")
        terminal.press("exit 3\n")

        assert await terminal.end() == 3


async def test_window_that_is_closed_ends_command_and_lab(cli: Cli) -> None:
    async with on_a_terminal(
        cli, *lab_up("--", "sh", "-c", "echo here; exec sleep 60")
    ) as terminal:
        await terminal.says("here")

        terminal.hang_up()

        assert await terminal.end() == 128 + signal.SIGHUP


async def test_signal_to_the_lab_ends_its_command_and_then_the_lab(cli: Cli) -> None:
    async with cli.start(*lab_up("--", "sh", "-c", "echo here >&2; exec sleep 60")) as running:
        await running.says("here")

        running.signal(signal.SIGTERM)

        assert (await running.end()).status == 128 + signal.SIGHUP


async def test_command_that_does_not_exist_is_a_usage_error(cli: Cli) -> None:
    done = await cli(*lab_up("--nodes", "1", "--", "nosuch"))

    assert done.status == ExitCode.USAGE
    assert "error: cannot run 'nosuch': No such file" in done.err


async def test_folder_that_cannot_be_used_is_an_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = shlex.quote(str(tmp_path / "file" / "lab"))

    done = await cli(*lab_up("--folder", folder))

    assert done.status == ExitCode.FAILURE
    assert "error: cannot use" in done.err


async def test_who_leaves_a_lab_is_told_that_what_is_bound_waits_for_it(
    agent_cli: Cli,
) -> None:
    script = f"{VMREDIR} bind 1209:0001:FLASH001 fedora"

    done = await agent_cli(*lab_up("--", "sh", "-c", script))
    afterwards = await agent_cli("unbind", "--all", "--lab")
    await agent_cli("agent", "stop")

    assert done.out == "r1: 1209:0001:FLASH001 is plugged into VM demo/fedora, slot flash\n"
    assert "1 redirections wait for this lab to come back" in done.err
    assert afterwards.out.startswith("r1 unbound: ")
