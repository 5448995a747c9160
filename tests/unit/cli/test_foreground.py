"""How a signal ends a redirection of the foreground; each minute of it costs no time."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby

import pytest

from kubectl_vmredir.cli.foreground import keep_bound
from kubectl_vmredir.errors import DeviceBusy
from kubectl_vmredir.model import Danger, DeviceUse, Finding
from kubectl_vmredir.service.interface import TRIAL_S, BindRequest, Change
from kubectl_vmredir.service.service import Service
from tests.support.fake_cluster import STEPS
from tests.support.fake_usb import device
from tests.support.scripted_dialer import Hold, Silence
from tests.support.service_world import FEDORA, STICK, World, a_world
from tests.support.virtual_clock import after, at_rest

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
IN_FLIGHT = STEPS[: STEPS.index("target ready") + 1]
QUESTION = "End now all the same? [y/N]: "
HARM = "can crash the VM"
KEYBOARD = Finding(Danger.ALLOW, "it is the only keyboard of this machine")
TRIAL = "Leave it in the VM? [Y/n]\n"


@dataclass
class Foreground:
    """The command, on its way."""

    world: World
    task: asyncio.Task[int]

    async def gets(self, number: signal.Signals) -> None:
        """Let it get a signal, and do all that it does at once."""
        os.kill(os.getpid(), number)
        await at_rest()

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.task.result() if self.task.done() else None


@asynccontextmanager
async def foreground(
    *findings: Finding, service: type[Service] = Service
) -> AsyncIterator[Foreground]:
    """Run ``bind --foreground`` until its device is plugged in."""
    async with a_world(service=service) as world, asyncio.TaskGroup() as group:
        world.devices.uses[device()] = DeviceUse(findings=findings)
        request = BindRequest(STICK, FEDORA, allow_keyboard=True)
        task = group.create_task(keep_bound(world.service, request))
        await after(6)
        yield Foreground(world, task)
        task.cancel()


class Keys:
    """The keyboard of a terminal that is our stdin."""

    def __init__(self, master: int, slave: int) -> None:
        self._master = master
        self._slave = slave

    async def type(self, text: str) -> None:
        os.write(self._master, text.encode())
        # The kernel takes its time from one end of a terminal to the other.
        assert select.select([self._slave], [], [], 5) == ([self._slave], [], [])
        await at_rest()

    def hang_up(self) -> None:
        os.close(self._master)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    master, slave = pty.openpty()
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield Keys(master, slave)


Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(("number", "status"), SIGNALS.items())
async def test_signal_ends_it_at_once_where_that_harms_nobody(
    number: signal.Signals, status: int, capsys: Capture
) -> None:
    async with foreground() as command:
        await command.gets(number)

        assert command.status == status
        assert command.world.link.closes == 1
    assert "waiting" not in capsys.readouterr().err


@pytest.mark.parametrize("step", IN_FLIGHT)
@pytest.mark.parametrize(("number", "status"), SIGNALS.items())
async def test_signal_waits_for_a_migration_and_says_so(
    number: signal.Signals, status: int, step: str, capsys: Capture
) -> None:
    async with foreground() as command:
        migration = command.world.migration()
        migration.go_to(step)
        await at_rest()

        await command.gets(number)
        await after(0.9 if step == "target ready" else 59)

        assert command.status is None
        assert command.world.link.closes == 0
        said = capsys.readouterr().err
        assert "demo/fedora, slot flash: waiting for " in said
        assert ", 60 s at most\n" in said
        migration.fail()
        await at_rest()
        assert command.status == status
        assert command.world.link.closes == 1
        assert HARM not in capsys.readouterr().err


@pytest.mark.parametrize(("number", "status"), SIGNALS.items())
async def test_without_a_terminal_it_ends_after_a_minute_and_says_what_that_may_break(
    number: signal.Signals, status: int, capsys: Capture
) -> None:
    async with foreground() as command:
        command.world.migration().go_to("copying")
        await at_rest()
        await command.gets(number)
        await after(59)
        assert command.status is None

        await after(1.1)

        assert command.status == status
    said = capsys.readouterr().err
    assert HARM in said
    assert "it has waited as long as a signal may wait" in said
    assert QUESTION not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_who_did_not_press_ctrl_c_is_not_asked_after_a_minute(
    number: signal.Signals, keys: Keys, capsys: Capture
) -> None:
    async with foreground() as command:
        command.world.migration().go_to("copying")
        await at_rest()
        await command.gets(number)

        await after(60.1)

        assert command.status == SIGNALS[number]
    assert QUESTION not in capsys.readouterr().err


async def test_who_pressed_ctrl_c_is_asked_after_a_minute(keys: Keys, capsys: Capture) -> None:
    async with foreground() as command:
        command.world.migration().go_to("copying")
        await at_rest()
        await command.gets(signal.SIGINT)
        await after(60.1)
        assert command.status is None
        assert capsys.readouterr().err.endswith(QUESTION)

        await keys.type("yes\n")

        assert command.status == 130


@pytest.mark.parametrize("answer", ["n\n", "\n", "what?\n", "\x04"])
async def test_second_ctrl_c_explains_and_asks_and_any_answer_but_yes_goes_on_waiting(
    answer: str, keys: Keys, capsys: Capture
) -> None:
    async with foreground() as command:
        migration = command.world.migration()
        migration.go_to("copying")
        await at_rest()
        await command.gets(signal.SIGINT)
        assert QUESTION not in capsys.readouterr().err

        await command.gets(signal.SIGINT)
        said = capsys.readouterr().err
        assert said.index(HARM) < said.index(QUESTION)
        await keys.type(answer)
        await after(30)

        assert command.status is None
        assert command.world.link.closes == 0
        migration.fail()
        await at_rest()
        assert command.status == 130


async def test_answer_y_ends_it_now(keys: Keys) -> None:
    async with foreground() as command:
        command.world.migration().go_to("copying")
        await at_rest()
        await command.gets(signal.SIGINT)
        await command.gets(signal.SIGINT)

        await keys.type("y\n")

        assert command.status == 130


async def test_what_was_typed_before_the_question_is_no_answer(keys: Keys) -> None:
    async with foreground() as command:
        command.world.migration().go_to("copying")
        await at_rest()
        await command.gets(signal.SIGINT)
        await keys.type("y\n")

        await command.gets(signal.SIGINT)

        assert command.status is None


async def test_signals_that_come_before_the_answer_do_not_ask_again(
    keys: Keys, capsys: Capture
) -> None:
    async with foreground() as command:
        command.world.migration().go_to("copying")
        await at_rest()
        for _ in range(4):
            await command.gets(signal.SIGINT)

        await keys.type("n\n")

        assert capsys.readouterr().err.count(QUESTION) == 1
        await command.gets(signal.SIGINT)
        assert capsys.readouterr().err.count(QUESTION) == 1


async def test_question_is_withdrawn_when_the_gate_opens(keys: Keys) -> None:
    async with foreground() as command:
        migration = command.world.migration()
        migration.go_to("copying")
        await at_rest()
        await command.gets(signal.SIGINT)
        await command.gets(signal.SIGINT)

        migration.fail()
        await at_rest()

        assert command.status == 130


async def test_terminal_that_hangs_up_is_no_answer(keys: Keys) -> None:
    async with foreground() as command:
        migration = command.world.migration()
        migration.go_to("copying")
        await at_rest()
        await command.gets(signal.SIGINT)
        await command.gets(signal.SIGINT)

        keys.hang_up()
        await command.gets(signal.SIGHUP)
        await after(20)

        assert command.status is None
        assert command.world.link.closes == 0
        migration.fail()
        await at_rest()
        assert command.status == 130


async def test_second_ctrl_c_ends_at_once_what_only_takes_long() -> None:
    async with foreground() as command:
        command.world.dialer.script.append(Hold())
        command.world.link.end()
        await after(1)
        await command.gets(signal.SIGINT)
        await after(5)
        assert command.status is None

        await command.gets(signal.SIGINT)

        assert command.status == 130


async def test_bug_before_the_device_is_in_the_vm_does_not_end_what_waits_for_the_gate() -> None:
    async with a_world() as world, asyncio.TaskGroup() as group:
        world.dialer.script.append(Silence())
        task = group.create_task(keep_bound(world.service, BindRequest(STICK, FEDORA)))
        await after(1)
        migration = world.migration()
        migration.go_to("copying")
        world.link.ping_bug = ZeroDivisionError("a bug")
        await after(10)
        command = Foreground(world, task)
        assert command.status is None

        await command.gets(signal.SIGINT)

        assert command.status is None
        assert world.link.closes == 0
        migration.fail()
        await at_rest()
        assert command.status == 1
        assert world.link.closes == 1


async def test_messages_that_nobody_can_read_any_more_end_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stderr = os.fdopen(writer, "w", buffering=1)
    async with foreground() as command:
        migration = command.world.migration()
        migration.go_to("copying")
        await at_rest()
        monkeypatch.setattr(sys, "stderr", stderr)
        await command.gets(signal.SIGHUP)
        await after(50)

        assert command.status is None
        assert command.world.link.closes == 0
        migration.fail()
        await at_rest()
        assert command.status == 129
    stderr.close()


# -- the story --------------------------------------------------------------------------------


class Flooded(Service):
    """Its subscribers are always too slow: they hear snapshots instead of what happens."""

    @asynccontextmanager
    async def subscribe(self, *, numbers: bool = False) -> AsyncIterator[AsyncIterator[Change]]:
        async def snapshots(changes: AsyncIterator[Change]) -> AsyncIterator[Change]:
            async for _ in changes:
                yield await self.snapshot()

        async with super().subscribe(numbers=numbers) as changes:
            yield snapshots(changes)


SERVICES = pytest.mark.parametrize("service", [Service, Flooded])


@SERVICES
async def test_story_is_told_from_its_beginning_and_nothing_twice(
    service: type[Service], capsys: Capture
) -> None:
    async with foreground(service=service) as command:
        command.world.link.end()
        await after(6)
        await command.gets(signal.SIGTERM)

    told = [line.split()[1] for line in capsys.readouterr().err.splitlines()]
    states = ["claiming", "dialing", "connected", "holding", "dialing", "connected"]
    assert [state.rstrip(":") for state, _ in groupby(told)][:6] == states
    assert told.count("connected:") == 2


@SERVICES
async def test_trouble_at_the_beginning_ends_it(service: type[Service], capsys: Capture) -> None:
    async with a_world(service=service) as world, asyncio.TaskGroup() as group:
        world.devices.refusal = DeviceBusy(device(), "pcscd", hint="Stop it:\n  stop \x1b")
        task = group.create_task(keep_bound(world.service, BindRequest(STICK, FEDORA)))
        await at_rest()

        assert task.result() == 5
    said = capsys.readouterr().err.splitlines()
    assert said[-3:] == [
        "error: device 1234:5678 is held by pcscd",
        "hint: Stop it:",
        "  stop \\x1b",
    ]


# -- the only keyboard ------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["\n", "y\n", "Yes\n"])
async def test_keyboard_that_may_stay_in_the_vm_stays(
    answer: str, keys: Keys, capsys: Capture
) -> None:
    async with foreground(KEYBOARD) as command:
        said = capsys.readouterr().err
        assert f"\nThe device comes back in 30 s unless you confirm. {TRIAL}" in said

        await keys.type(answer)
        await after(2 * TRIAL_S)

        assert command.status is None
        assert command.world.link.open
    assert TRIAL not in capsys.readouterr().err


@SERVICES
async def test_keyboard_that_may_not_stay_comes_back_at_once(
    service: type[Service], keys: Keys
) -> None:
    async with foreground(KEYBOARD, service=service) as command:
        await keys.type("n\n")

        assert command.status == 1
        assert command.world.devices.hosts[0].released


async def test_keyboard_comes_back_if_nobody_answers_and_the_time_left_is_said(
    keys: Keys, capsys: Capture
) -> None:
    async with foreground(KEYBOARD) as command:
        await after(TRIAL_S - 7)
        assert command.status is None
        await after(2)

        assert command.status == 1
        assert command.world.devices.hosts[0].released
    said = capsys.readouterr().err
    assert [said.count(f"comes back in {left} s unless") for left in (30, 20, 10, 0)] == [
        2,
        1,
        1,
        0,
    ]
    assert "stopped: not confirmed in 30 s" in said


async def test_without_a_terminal_the_keyboard_comes_back_and_that_is_said(
    capsys: Capture,
) -> None:
    async with foreground(KEYBOARD) as command:
        said = capsys.readouterr().err
        assert "there is no terminal to confirm on: the device comes back in 30 s" in said
        assert TRIAL not in said
        await after(TRIAL_S)

        assert command.status == 1


async def test_ctrl_c_withdraws_the_question_for_another_one(keys: Keys, capsys: Capture) -> None:
    async with foreground(KEYBOARD) as command:
        command.world.migration().go_to("copying")
        await at_rest()
        await command.gets(signal.SIGINT)
        await command.gets(signal.SIGINT)
        assert capsys.readouterr().err.endswith(QUESTION)

        await keys.type("y\n")

        assert command.status == 130


async def test_terminal_that_hangs_up_confirms_nothing(keys: Keys) -> None:
    async with foreground(KEYBOARD) as command:
        keys.hang_up()
        await after(TRIAL_S)

        assert command.status == 1
        assert command.world.devices.hosts[0].released


async def test_device_that_is_not_on_trial_is_not_asked_about(keys: Keys, capsys: Capture) -> None:
    async with foreground() as command:
        await after(TRIAL_S)

        assert command.status is None
    assert TRIAL not in capsys.readouterr().err
