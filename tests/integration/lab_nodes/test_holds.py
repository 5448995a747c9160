"""A migration stops at each step of the time-line, and goes on when it is let go."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.timeline import Step
from tests.support.labs import DESK, echo_lab

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_vmredir.lab.cluster import Lab
    from kubectl_vmredir.lab.moves import Move

# Each step, by what tells that it is reached; empty where no field does.
REACHED = {
    Step.PENDING: "vmim Pending",
    Step.SCHEDULING: "vmim Scheduling",
    Step.SCHEDULED: "vmim Scheduled",
    Step.HANDED_OFF: "migrationUid",
    Step.PREPARED: "targetNodeAddress",
    Step.STARTED: "startTimestamp",
    Step.DETECTED: "targetNodeDomainDetected",
    Step.PRE_SWITCHOVER: "",
    Step.TARGET_RUNNING: "",
    Step.DOMAIN_READY: "targetNodeDomainReadyTimestamp",
    Step.SOURCE_GONE: "",
    Step.NODE_FLIPPED: "endTimestamp",
    Step.COMPLETED: "completed",
    Step.CLEANED_UP: "",
}


def facts(lab: Lab, move: Move) -> set[str]:
    vmi = lab.vmi(DESK)
    vmim = move.vmim
    assert vmi is not None
    assert vmim is not None
    state = objects.migration_state(vmi)
    mine = state if state.get("migrationUid") == move.uid else ()
    return {f"vmim {objects.phase(vmim)}", *mine}


async def test_a_migration_is_held_at_each_step_and_goes_on(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        for place, step in enumerate(Step):
            move = await lab.migrate(DESK, step)

            await move.held(step)
            seen = facts(lab, move)

            assert {REACHED[step]} - {""} <= seen, step
            later = {REACHED[other] for other in list(Step)[place + 1 :]} - {""}
            assert seen.isdisjoint(later), step
            await move.release()
            assert await move.finished(), step
            await lab.until(partial(_is_free, move), "nobody says it is held")
            await lab.wait_vmi(DESK, lambda vmi: not objects.label(vmi, objects.TARGET_NODE_NAME))


def _is_free(move: Move) -> bool:
    vmim = move.vmim
    return vmim is None or objects.annotation(vmim, "lab.vmredir.io/held-at") is None


async def test_a_hold_can_be_moved_on_step_by_step(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        steps = [Step.SCHEDULED, Step.PREPARED, Step.PRE_SWITCHOVER, Step.SOURCE_GONE]
        move = await lab.migrate(DESK, steps[0])

        for step in steps:
            await move.hold_at(step)
            await move.held(step)

        await move.release()
        assert await move.finished()


async def test_streams_are_open_until_the_source_is_gone(tmp_path: Path) -> None:
    """What a client of the source can still reach, at the two steps around its end."""
    async with echo_lab(tmp_path) as lab:
        move = await lab.migrate(DESK, Step.DOMAIN_READY)
        await move.held(Step.DOMAIN_READY)
        sockets_before = _sockets(lab, "node1")

        await move.hold_at(Step.SOURCE_GONE)
        await move.held(Step.SOURCE_GONE)

        assert sockets_before == 4
        assert _sockets(lab, "node1") == 0
        assert _sockets(lab, "node2") == 4
        await move.release()
        assert await move.finished()


def _sockets(lab: Lab, node: str) -> int:
    return len(list(lab.folder.glob(f"{node}/pods/*/run/kubevirt-private/*/virt-usbredir-*")))


async def test_a_migration_held_before_the_hand_off_can_be_cancelled(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        move = await lab.migrate(DESK, Step.SCHEDULED)
        await move.held(Step.SCHEDULED)

        await move.cancel()

        assert not await move.finished()
        vmi = lab.vmi(DESK)
        assert vmi is not None
        assert objects.migration_state(vmi) == {}


@pytest.mark.parametrize("step", [Step.STARTED, Step.DETECTED, Step.PRE_SWITCHOVER])
async def test_a_held_migration_that_runs_can_be_cancelled(tmp_path: Path, step: Step) -> None:
    async with echo_lab(tmp_path) as lab:
        move = await lab.migrate(DESK, step)
        await move.held(step)

        await move.cancel()

        assert not await move.finished()
        vmi = await lab.wait_vmi(DESK, lambda vmi: objects.migration_state(vmi).get("failed"))
        assert objects.migration_state(vmi)["abortStatus"] == "Succeeded"
        assert objects.status(vmi)["nodeName"] == "node1"
        assert await (await lab.migrate(DESK)).finished()


async def test_a_cancel_that_comes_too_late_is_refused_and_the_vm_moves(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        move = await lab.migrate(DESK, Step.TARGET_RUNNING)
        await move.held(Step.TARGET_RUNNING)

        await move.cancel()
        await lab.wait_vmi(DESK, lambda vmi: objects.migration_state(vmi).get("abortRequested"))
        await move.release()

        vmi = await lab.wait_vmi(DESK, lambda vmi: objects.migration_state(vmi).get("completed"))
        assert not objects.migration_state(vmi).get("failed")
        assert objects.status(vmi)["nodeName"] == "node2"
