"""How a bind that the agent keeps up is waited for; each minute of it costs no time."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from kubectl_vmredir.cli.waiting import bind_and_go, bind_and_wait, tell_result
from kubectl_vmredir.errors import DeviceBusy, RedirectionNotFound, VmRedirError
from kubectl_vmredir.model import Danger, DeviceUse, Finding, RedirectionId
from kubectl_vmredir.service.interface import TRIAL_S, BindRequest
from tests.support.fake_cluster import running
from tests.support.fake_usb import device
from tests.support.scripted_dialer import Hold
from tests.support.service_world import FEDORA, STICK, World, a_world
from tests.support.virtual_clock import after, at_rest

Capture = pytest.CaptureFixture[str]

REQUEST = BindRequest(STICK, FEDORA, allow_keyboard=True)
KEYBOARD = Finding(Danger.ALLOW, "it is the only keyboard of this machine")
STAYS = "kubectl vmredir unbind r1"


@dataclass
class Waiting:
    """A command that waits for a bind."""

    world: World
    task: asyncio.Task[tuple[RedirectionId, int]]


@asynccontextmanager
async def waiting(world: World, timeout_s: float | None = None) -> AsyncIterator[Waiting]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bind_and_wait(world.service, REQUEST, timeout_s=timeout_s))
        await at_rest()
        yield Waiting(world, task)
        task.cancel()


@pytest.fixture
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield


async def test_bind_is_waited_for_until_the_device_is_in_the_vm(capsys: Capture) -> None:
    async with a_world() as world:
        hold = Hold(asyncio.Event())
        world.dialer.script.append(hold)
        async with waiting(world) as command:
            assert not command.task.done()

            hold.go.set()
            await at_rest()

            assert command.task.result() == ("r1", 0)
        assert await world.state(RedirectionId("r1")) == "connected"
    assert capsys.readouterr().err == "", "nobody reads progress on a pipe"


async def test_bind_that_is_late_is_an_error_and_goes_on(capsys: Capture) -> None:
    async with a_world() as world:
        world.dialer.script.append(Hold(asyncio.Event()))

        with pytest.raises(VmRedirError, match=r"not connected after 5 s; its state is dialing"):
            await bind_and_wait(world.service, REQUEST, timeout_s=5)

        assert await world.state(RedirectionId("r1")) == "dialing"


async def test_who_stops_waiting_is_told_how_to_unbind(capsys: Capture) -> None:
    async with a_world() as world:
        world.dialer.script.append(Hold(asyncio.Event()))
        async with waiting(world) as command:
            command.task.cancel()
            await at_rest()

            assert command.task.cancelled()
        assert await world.state(RedirectionId("r1")) == "dialing"
    assert STAYS in capsys.readouterr().err


async def test_trouble_that_a_person_must_cure_is_the_exit_status(capsys: Capture) -> None:
    async with a_world() as world:
        world.devices.refusal = DeviceBusy(device(), "pcscd", hint="Stop it.")

        assert await bind_and_wait(world.service, REQUEST, timeout_s=None) == ("r1", 5)

        assert len(await world.all()) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["error: device 1234:5678 is held by pcscd", "hint: Stop it."]
    assert STAYS in said[2]


async def test_bind_that_is_undone_meanwhile_is_a_failure() -> None:
    async with a_world(running("another")) as world, waiting(world) as command:
        await world.service.unbind(RedirectionId("r1"))
        await at_rest()

        assert command.task.result() == ("r1", 1)


async def test_keyboard_on_trial_is_waited_for_until_somebody_confirms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    master, slave = pty.openpty()
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        async with a_world() as world:
            world.devices.uses[device()] = DeviceUse(findings=(KEYBOARD,))
            async with waiting(world) as command:
                await after(6)
                assert await world.state(RedirectionId("r1")) == "connected"
                assert not command.task.done()

                os.write(master, b"y\n")
                assert select.select([slave], [], [], 5) == ([slave], [], [])
                await at_rest()

                assert command.task.result() == ("r1", 0)
            await after(2 * TRIAL_S)
            assert await world.state(RedirectionId("r1")) == "connected"
    os.close(master)


@pytest.mark.usefixtures("no_terminal")
async def test_keyboard_that_nobody_can_confirm_comes_back(capsys: Capture) -> None:
    async with a_world() as world:
        world.devices.uses[device()] = DeviceUse(findings=(KEYBOARD,))

        assert await bind_and_wait(world.service, REQUEST, timeout_s=None) == ("r1", 1)

        assert await world.all() == []
    assert "the device comes back in 30 s" in capsys.readouterr().err


async def test_who_does_not_wait_is_told_that_a_keyboard_comes_back(capsys: Capture) -> None:
    async with a_world() as world:
        assert await bind_and_go(world.service, REQUEST) == "r1"

    assert "it comes back in 30 s" in capsys.readouterr().err


async def test_result_of_what_is_no_more_is_that(capsys: Capture) -> None:
    async with a_world() as world:
        with pytest.raises(RedirectionNotFound):
            await tell_result(world.service, RedirectionId("r1"), None)


async def test_bind_that_was_blocked_is_waited_for_anew_and_told_from_there(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_world() as world:
        world.devices.refusal = DeviceBusy(device(), "pcscd", hint="Stop it.")
        assert await bind_and_wait(world.service, REQUEST, timeout_s=None) == ("r1", 5)
        world.devices.refusal = None
        capsys.readouterr()
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

        assert await bind_and_wait(world.service, REQUEST, timeout_s=None) == ("r1", 0)

    said = capsys.readouterr().err
    assert "pcscd" not in said
    assert said.count("claiming the device") == 1
