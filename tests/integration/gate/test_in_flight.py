"""While a migration is in flight nothing is closed and nothing dialed, at each of its steps.

A real service with the real adapter, on the lab: what counts is what its nodes and its guest saw.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Final

import pytest

from kubectl_vmredir.cli.foreground import keep_bound
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.devices.keyboard import IDS
from kubectl_vmredir.lab.faults import Fault
from kubectl_vmredir.lab.timeline import Step
from kubectl_vmredir.model import DeviceSelector, RedirectionId, RedirectionState
from kubectl_vmredir.service.interface import BindRequest
from tests.support.programs import a_desk, a_program
from tests.support.virtual_clock import after, at_rest, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

S = RedirectionState
_STEPS: Final = tuple(Step)
IN_FLIGHT: Final = _STEPS[: _STEPS.index(Step.DOMAIN_READY)]
"""At which the gate is shut for as long as they last."""

SIGNALS: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
"""And the exit status that each leads to."""

LONG_S: Final = 30.0
"""Longer than any patience of ours but that of a signal, which is a minute."""


def task_of(redirection: RedirectionId) -> asyncio.Task[object]:
    name = f"supervise-{redirection}"
    [task] = [task for task in asyncio.all_tasks() if task.get_name() == name]
    return task


@pytest.mark.parametrize(
    ("step", "number"),
    [(step, list(SIGNALS)[place % len(SIGNALS)]) for place, step in enumerate(IN_FLIGHT)],
)
async def test_whatever_happens_the_vm_is_left_alone_and_what_was_asked_for_is_done_afterwards(
    lab: Lab, step: Step, number: signal.Signals
) -> None:
    async with (
        a_desk(lab, f"at-{step}") as desk,
        a_program(lab, "UNBOUND", "CANCELLED", "BOUND") as mine,
        a_program(lab, "CRASHED") as flawed,
        a_program(lab, "SIGNALLED") as signalled,
        asyncio.TaskGroup() as background,
    ):
        unbound = await mine.plug_in("UNBOUND", desk, "a")
        cancelled = await mine.plug_in("CANCELLED", desk, "b")
        crashed = await flawed.plug_in("CRASHED", desk, "c")
        foreground = background.create_task(
            keep_bound(
                signalled.service,
                BindRequest(DeviceSelector(ids=IDS, serial="SIGNALLED"), desk.ref, "d"),
            )
        )
        await desk.knows("SIGNALLED")
        move = await lab.migrate(desk.ref, step)
        await move.held(step)
        await at_rest()
        before = desk.traces
        assert len(before.slots) == 4

        unbinding = background.create_task(mine.service.unbind(unbound))
        task_of(cancelled).cancel()
        bound = await mine.bind("BOUND", desk, "d")
        flawed.dialer.bug = ZeroDivisionError("a bug")
        os.kill(os.getpid(), number)
        await after(LONG_S)

        assert desk.traces == before
        assert not unbinding.done()
        assert not foreground.done()
        for waiting in (unbound, bound):
            assert "waiting for the migration of VM" in (await mine.status(waiting)).reason
        assert await flawed.state(crashed) is S.BLOCKED

        flawed.dialer.bug = None
        await move.release()
        assert await move.finished()
        await desk.has("BOUND")
        assert unbinding.done()
        assert foreground.result() == SIGNALS[number]
        assert await flawed.bind("CRASHED", desk, "c") == crashed, "it is tried again"
        await desk.has("BOUND", "CRASHED")
        assert desk.traces.uid == before.uid


@pytest.mark.parametrize("step", IN_FLIGHT)
async def test_missed_pongs_close_nothing_while_a_migration_is_in_flight(
    lab: Lab, step: Step
) -> None:
    async with a_desk(lab, f"silent-at-{step}") as desk, a_program(lab, "K1") as program:
        redirection = await program.plug_in("K1", desk, "a")
        move = await lab.migrate(desk.ref, step)
        await move.held(step)
        await at_rest()
        before = desk.traces
        source = (await program.status(redirection)).node

        await lab.faults.make(Fault.HANG, node=source)
        await after(LONG_S)

        assert desk.traces == before
        status = await program.status(redirection)
        assert status.state is S.STALLED
        assert "nothing comes back on the link; waiting for the migration" in status.reason
        await move.release()
        assert await move.finished()
        await desk.has("K1")
        assert (await program.status(redirection)).node != source
        await lab.faults.end(Fault.HANG, node=source)


async def test_link_lost_in_flight_is_not_dialed_again_before_the_vm_has_moved(lab: Lab) -> None:
    async with a_desk(lab, "lost") as desk, a_program(lab, "K1") as program:
        redirection = await program.plug_in("K1", desk, "a")
        move = await lab.migrate(desk.ref, Step.DETECTED)
        await move.held(Step.DETECTED)
        source = (await program.status(redirection)).node

        await lab.faults.make(Fault.HANDLER_DOWN, node=source)
        await lab.faults.end(Fault.HANDLER_DOWN, node=source)
        await after(LONG_S)

        assert [line.rpartition(": ")[2] for line in desk.traces.slots] == [
            "slot 0 is taken",
            "slot 0 is free",
        ]
        assert await program.state(redirection) is S.HANDING_OVER
        await move.release()
        assert await move.finished()
        await desk.has("K1")
        assert (await program.status(redirection)).node != source


async def test_cancelled_migration_opens_the_gate_at_once(lab: Lab) -> None:
    async with (
        a_desk(lab, "called-off") as desk,
        a_program(lab, "UNBOUND", "BOUND") as program,
        asyncio.TaskGroup() as background,
    ):
        unbound = await program.plug_in("UNBOUND", desk, "a")
        move = await lab.migrate(desk.ref, Step.STARTED)
        await move.held(Step.STARTED)
        unbinding = background.create_task(program.service.unbind(unbound))
        await program.bind("BOUND", desk, "b")
        await after(LONG_S)
        assert not unbinding.done()

        await move.cancel()
        await lab.wait_vmi(desk.ref, lambda vmi: objects.migration_state(vmi).get("failed"))

        await until(unbinding.done)
        await desk.has("BOUND")
