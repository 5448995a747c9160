"""Before a migration is seen, and from the moment on in which its guest runs on the target."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.timeline import Step
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.migration import SETTLE_S
from tests.support.programs import a_desk, a_program
from tests.support.virtual_clock import after, at_rest, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

S = RedirectionState
LONG_S: Final = 30.0


async def test_without_a_migration_all_is_done_at_once(lab: Lab) -> None:
    async with a_desk(lab, "quiet") as desk, a_program(lab, "K1", "K2") as program:
        first = await program.plug_in("K1", desk, "a")
        await program.plug_in("K2", desk, "b")
        begun = asyncio.get_running_loop().time()

        await program.service.unbind(first)
        risks = await program.service.shutdown()

        assert asyncio.get_running_loop().time() - begun < 1
        assert risks == ()
        await desk.has()
        assert sorted(line.rpartition(": ")[2] for line in desk.traces.slots) == [
            "slot 0 is free",
            "slot 0 is taken",
            "slot 1 is free",
            "slot 1 is taken",
        ]


async def test_links_to_the_source_are_closed_a_second_after_the_guest_runs_on_the_target(
    lab: Lab,
) -> None:
    async with (
        a_desk(lab, "ready") as desk,
        a_program(lab, "UNBOUND", "BOUND") as mine,
        a_program(lab, "EXIT") as other,
        asyncio.TaskGroup() as background,
    ):
        unbound = await mine.plug_in("UNBOUND", desk, "a")
        await other.plug_in("EXIT", desk, "b")
        move = await lab.migrate(desk.ref, Step.TARGET_RUNNING)
        await move.held(Step.TARGET_RUNNING)
        await at_rest()
        unbinding = background.create_task(mine.service.unbind(unbound))
        exiting = background.create_task(other.service.shutdown())
        bound = await mine.bind("BOUND", desk, "c")
        await move.hold_at(Step.DOMAIN_READY)
        await move.held(Step.DOMAIN_READY)
        await at_rest()
        before = desk.traces

        await after(0.8 * SETTLE_S)
        assert desk.traces.slots == before.slots
        assert not unbinding.done()
        assert not exiting.done()

        await after(0.3 * SETTLE_S)
        await until(lambda: unbinding.done() and exiting.done())
        assert exiting.result() == ()
        assert len(desk.traces.slots) == len(before.slots) + 2

        # The route leads to the source still.
        await after(LONG_S)
        assert len(desk.traces.slots) == len(before.slots) + 2
        assert "waiting for the cluster to lead to VM" in (await mine.status(bound)).reason

        await move.release()
        assert await move.finished()
        await desk.has("BOUND")
        assert desk.traces.uid == before.uid


async def test_while_the_vm_is_between_the_nodes_nobody_dials_and_a_device_can_be_taken_back(
    lab: Lab,
) -> None:
    async with a_desk(lab, "between") as desk, a_program(lab, "K1", "K2") as program:
        first = await program.plug_in("K1", desk, "a")
        second = await program.plug_in("K2", desk, "b")
        move = await lab.migrate(desk.ref, Step.SOURCE_GONE)
        await move.held(Step.SOURCE_GONE)
        await at_rest()
        before = desk.traces
        assert [line.rpartition(" ")[2] for line in before.slots].count("free") == 2

        await after(LONG_S)
        assert desk.traces == before
        assert await program.state(first) is S.HANDING_OVER

        await program.service.unbind(first)
        assert await program.redirections() == [second]
        await move.release()
        assert await move.finished()
        await desk.has("K2")


@pytest.mark.parametrize("step", [Step.NODE_FLIPPED, Step.COMPLETED, Step.CLEANED_UP])
async def test_as_soon_as_the_route_leads_to_the_target_the_device_is_back(
    lab: Lab, step: Step
) -> None:
    async with (
        a_desk(lab, f"at-{step}") as desk,
        a_program(lab, "K1", "K2") as program,
    ):
        first = await program.plug_in("K1", desk, "a")
        source = (await program.status(first)).node
        move = await lab.migrate(desk.ref, step)

        await move.held(step)
        await desk.has("K1")
        await program.plug_in("K2", desk, "b")
        await program.service.unbind(first)

        await desk.has("K2")
        assert (await program.status((await program.redirections())[0])).node != source
        await move.release()
        assert await move.finished()
