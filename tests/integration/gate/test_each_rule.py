"""What happens to a VM of the lab when a rule of safety is taken out: each of them is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from kubectl_vmredir.continuity.events import Effect, Event, LinkOpened, SendToGuest
from kubectl_vmredir.continuity.machine import ContinuityMachine
from kubectl_vmredir.kubevirt.cluster import KubevirtCluster
from kubectl_vmredir.kubevirt.dial import ApiDialer
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.devices.keyboard import Keyboard
from kubectl_vmredir.lab.devices.source import VirtualDevices
from kubectl_vmredir.lab.faults import Fault
from kubectl_vmredir.lab.timeline import Step
from kubectl_vmredir.model import RedirectionId
from kubectl_vmredir.service.gate import (
    RULES,
    Gate,
    Rule,
    dial_leads_to_target,
    no_closing_in_flight,
    no_plugging_in_flight,
    silent_until_hello,
)
from kubectl_vmredir.service.links import Destination
from kubectl_vmredir.service.migration import SETTLE_S, VmiFacts
from kubectl_vmredir.service.sessions import DeviceSessions
from tests.support.programs import Desk, a_client, a_desk, a_program
from tests.support.virtual_clock import after, at_rest, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


def without(rule: Rule) -> Sequence[Rule]:
    return [other for other in RULES if other is not rule]


async def is_lost(desk: Desk, uid: str) -> bool:
    """Return whether the VM of that VMI does not live on."""
    await after(5)
    vmi = await desk.lab.wait_running(desk.ref)
    return objects.uid(vmi) != uid


@pytest.mark.parametrize(
    ("rules", "plugged"), [(RULES, ["K1"]), (without(no_plugging_in_flight), ["K1", "K2"])]
)
async def test_rule_1_keeps_new_devices_from_a_source_that_is_leaving(
    lab: Lab, rules: Sequence[Rule], plugged: Sequence[str]
) -> None:
    async with a_desk(lab, "rule-1") as desk, a_program(lab, "K1", "K2", rules=rules) as program:
        await program.plug_in("K1", desk, "a")
        move = await lab.migrate(desk.ref, Step.DETECTED)
        await move.held(Step.DETECTED)
        await at_rest()

        await program.bind("K2", desk, "b")
        await after(5)

        assert [serial for _, serial in desk.traces.plugged] == plugged
        await move.release()
        assert await move.finished()


@pytest.mark.parametrize(("rules", "dials"), [(RULES, 0), (without(dial_leads_to_target), 1)])
async def test_rule_1_keeps_dials_from_a_source_that_has_left(
    lab: Lab, rules: Sequence[Rule], dials: int
) -> None:
    async with a_desk(lab, "rule-1-end") as desk, a_program(lab, "K1", rules=rules) as program:
        await program.plug_in("K1", desk, "a")
        move = await lab.migrate(desk.ref, Step.DOMAIN_READY)
        await move.held(Step.DOMAIN_READY)
        await after(SETTLE_S + 0.1)
        [first] = await program.redirections()
        await program.service.unbind(first)
        before = desk.traces

        await program.bind("K1", desk, "a")
        await after(5)

        assert len(desk.traces.slots) - len(before.slots) == dials
        await move.release()
        assert await move.finished()


@pytest.mark.parametrize(("rules", "lost"), [(RULES, False), (without(no_closing_in_flight), True)])
async def test_rule_2_saves_the_vm_from_a_program_that_ends_while_it_stands_still(
    lab: Lab, rules: Sequence[Rule], lost: bool
) -> None:
    async with (
        a_desk(lab, "rule-2") as desk,
        a_program(lab, "K1", rules=rules) as program,
        asyncio.TaskGroup() as background,
    ):
        await program.plug_in("K1", desk, "a")
        before = desk.traces
        move = await lab.migrate(desk.ref, Step.PRE_SWITCHOVER)
        await move.held(Step.PRE_SWITCHOVER)
        await at_rest()

        exiting = background.create_task(program.service.shutdown())
        await after(1)

        assert exiting.done() is lost
        await move.release()
        assert await move.finished() is not lost
        assert await is_lost(desk, before.uid) is lost
        await until(exiting.done)


class Rude(ContinuityMachine):
    """Speaks first."""

    def handle(self, event: Event) -> Sequence[Effect]:
        effects = list(super().handle(event))
        return [*effects, SendToGuest(b"\xff" * 64)] if isinstance(event, LinkOpened) else effects


@pytest.mark.parametrize(("rules", "lost"), [(RULES, False), (without(silent_until_hello), True)])
async def test_rule_3_saves_the_vm_from_words_that_it_reads_in_another_conversation(
    lab: Lab, rules: Sequence[Rule], lost: bool
) -> None:
    async with (
        a_desk(lab, "rule-3") as desk,
        VirtualDevices([Keyboard("K1")]) as devices,
        a_client(lab) as client,
    ):
        vmi = await KubevirtCluster(client).vmi(desk.ref)
        facts = VmiFacts(certain_at=0.0, vmi=vmi)
        gate = Gate(lambda _: facts, rules)
        async with DeviceSessions(devices, gate, new_machine=Rude) as sessions:
            [keyboard] = await devices.devices()
            session = await sessions.claim(keyboard, RedirectionId("r1"))
            await lab.faults.make(Fault.SILENT_BACKLOG, node=vmi.node)
            await session.dial(ApiDialer(client), Destination.of(vmi, facts))
            await after(1)

            assert session.bytes_up == (64 if lost else 0)
            await lab.faults.end(Fault.SILENT_BACKLOG, node=vmi.node)
            assert await is_lost(desk, vmi.uid) is lost
