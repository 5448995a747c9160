"""How ``bind --foreground`` ends: by signals, keys, and the end of its terminal."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from typing import Final

import pytest

from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.timeline import Step
from tests.support.commands import Cli
from tests.support.programs import Desk, a_desk
from tests.support.terminals import CTRL_C, Terminal, on_a_terminal

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEVICES: Final = ("1209:0001:FLASH001", "1209:0001:FLASH002", "1209:0002:KEYS001")
SIGNALS: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
_STEPS: Final = tuple(Step)
IN_FLIGHT: Final = _STEPS[: _STEPS.index(Step.DOMAIN_READY)]
QUESTION: Final = "End now all the same? [y/N]: "


def bind(device: str, desk: Desk) -> tuple[str, ...]:
    return "bind", "--virtual", "--foreground", device, desk.ref.name


async def test_signals_wait_at_every_step_of_a_migration_and_are_obeyed_afterwards(
    cli: Cli, lab: Lab
) -> None:
    async with a_desk(lab, "signalled") as desk, AsyncExitStack() as stack:
        commands = []
        for device in DEVICES:
            command = await stack.enter_async_context(cli.start(*bind(device, desk)))
            await command.says("connected")
            commands.append(command)
        move = await lab.migrate(desk.ref, IN_FLIGHT[0])
        await move.held(IN_FLIGHT[0])
        for command, number in zip(commands, SIGNALS, strict=True):
            await command.says("migrating")
            command.signal(number)
            assert "60 s at most" in await command.says("waiting for the migration of VM")

        for step in IN_FLIGHT:
            await move.hold_at(step)
            await move.held(step)
            await desk.streams("0 taken", "1 taken", "2 taken")
        await move.release()

        assert await move.finished()
        for command, status in zip(commands, SIGNALS.values(), strict=True):
            done = await command.end()
            assert done.status == status
            assert "stopped" in done.err
            assert "crash" not in done.err
            assert "Traceback" not in done.err


async def connected(terminal: Terminal) -> None:
    await terminal.says("connected: plugged in")


async def test_ctrl_c_ends_it_at_once_if_that_harms_nobody(cli: Cli, lab: Lab) -> None:
    async with a_desk(lab, "quiet") as desk:
        async with on_a_terminal(cli, *bind(DEVICES[0], desk)) as terminal:
            await connected(terminal)

            terminal.press(CTRL_C)

            assert await terminal.end() == ExitCode.INTERRUPTED
            await terminal.says("stopped")
            assert "waiting" not in terminal.said
        await desk.streams("0 taken", "0 free")


async def test_second_ctrl_c_explains_what_it_would_break_and_asks(cli: Cli, lab: Lab) -> None:
    async with (
        a_desk(lab, "asked") as desk,
        on_a_terminal(cli, *bind(DEVICES[0], desk)) as terminal,
    ):
        await connected(terminal)
        move = await lab.migrate(desk.ref, Step.SCHEDULED)
        await terminal.says("migrating")

        terminal.press(CTRL_C)
        await terminal.says("60 s at most")
        terminal.press(CTRL_C)
        assert "can crash the VM" in await terminal.says(QUESTION)
        terminal.press("n\n")
        await terminal.says("going on to wait")
        terminal.press(CTRL_C)
        await terminal.says(QUESTION)
        await desk.streams("0 taken")
        terminal.press("y\n")

        assert await terminal.end() == ExitCode.INTERRUPTED
        await desk.streams("0 taken", "0 free")
        await move.cancel()


async def test_who_does_not_insist_is_obeyed_when_the_migration_is_over(cli: Cli, lab: Lab) -> None:
    async with (
        a_desk(lab, "patient") as desk,
        on_a_terminal(cli, *bind(DEVICES[0], desk)) as terminal,
    ):
        await connected(terminal)
        move = await lab.migrate(desk.ref, Step.SCHEDULED)
        await terminal.says("migrating")
        terminal.press(CTRL_C)
        await terminal.says("60 s at most")
        terminal.press(CTRL_C)
        await terminal.says(QUESTION)
        terminal.press("\n")
        await terminal.says("going on to wait")
        await move.hold_at(Step.TARGET_RUNNING)
        await move.held(Step.TARGET_RUNNING)
        await desk.streams("0 taken")

        await move.release()

        assert await move.finished()
        assert await terminal.end() == ExitCode.INTERRUPTED


async def test_window_that_is_closed_in_mid_migration_does_not_unplug_the_device(
    cli: Cli, lab: Lab
) -> None:
    async with (
        a_desk(lab, "closed") as desk,
        on_a_terminal(cli, *bind(DEVICES[0], desk)) as terminal,
    ):
        await connected(terminal)
        move = await lab.migrate(desk.ref, Step.STARTED)
        await move.held(Step.STARTED)
        await terminal.says("migrating")

        terminal.hang_up()

        for step in (Step.DETECTED, Step.PRE_SWITCHOVER, Step.TARGET_RUNNING):
            await move.hold_at(step)
            await move.held(step)
            await desk.streams("0 taken")
        await move.release()
        assert await move.finished()
        assert await terminal.end() == 128 + signal.SIGHUP


async def test_a_signal_that_was_ignored_at_the_start_stays_ignored(cli: Cli, lab: Lab) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        async with (
            a_desk(lab, "nohup") as desk,
            cli.start("bind", "--virtual", "--foreground", DEVICES[0], desk.ref.name) as running,
        ):
            await running.says("connected")
            running.signal(signal.SIGHUP)
            running.signal(signal.SIGTERM)
            done = await running.end()
    finally:
        signal.signal(signal.SIGHUP, before)

    assert done.status == SIGNALS[signal.SIGTERM]
