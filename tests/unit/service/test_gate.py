from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from kubectl_vmredir.model import MigrationUid, VmiRef, VmiUid, VmiView
from kubectl_vmredir.service.gate import (
    RULES,
    Act,
    Allowed,
    Gate,
    Rule,
    Wait,
    dial_leads_to_target,
    no_closing_in_flight,
    no_plugging_in_flight,
    nothing_unseen,
    silent_until_hello,
)
from kubectl_vmredir.service.migration import (
    Migration,
    MigrationPhase,
    MigrationTracker,
    VmiFacts,
)
from kubectl_vmredir.service.ports import WatchRestored
from tests.support import traces
from tests.support.traces import Step

REF = VmiRef("demo", "fedora")
VMI = VmiView(REF, VmiUid("v1"), phase="Running", node="node1")
MIGRATION = Migration(
    MigrationUid("m1"),
    first_seen_at=0,
    phase=MigrationPhase.COPYING,
    source_node="node1",
    target_node="node2",
)
AT_REST = VmiFacts(certain_at=0, vmi=VMI)
IN_FLIGHT = replace(AT_REST, migrations=(MIGRATION,))
UNSEEN = replace(AT_REST, certain_at=None, doubt="the API server is away")
RUNS_ON_TARGET = replace(
    AT_REST, migrations=(replace(MIGRATION, phase=MigrationPhase.TARGET_READY, reopens_at=5.0),)
)
PLUGS = (Act.BIND, Act.DIAL, Act.ATTACH, Act.REPLUG, Act.UNBIND)
CLOSES = (Act.CLOSE, Act.UNBIND, Act.EXIT)


def gate(facts: VmiFacts, rules: Iterable[Rule] = RULES) -> Gate:
    return Gate(lambda _ref: facts, tuple(rules))


def without(*left_out: Rule) -> list[Rule]:
    return [rule for rule in RULES if rule not in left_out]


@pytest.mark.parametrize("act", Act)
def test_everything_is_allowed_while_nothing_happens(act: Act) -> None:
    assert gate(AT_REST).may(act, REF, 10) == Allowed()


@pytest.mark.parametrize("act", Act)
def test_nothing_is_allowed_while_a_migration_is_in_flight(act: Act) -> None:
    verdict = gate(IN_FLIGHT).may(act, REF, 10)

    assert verdict == Wait(
        "the migration of VM demo/fedora from node1 to node2 to end (copying)", None
    )


@pytest.mark.parametrize("act", Act)
def test_nothing_is_allowed_while_the_watch_is_down(act: Act) -> None:
    verdict = gate(UNSEEN).may(act, REF, 10)

    assert isinstance(verdict, Wait)
    assert "whether it is migrating is not known (the API server is away)" in verdict.reason


def test_gate_tells_when_to_ask_again_while_the_watch_catches_up() -> None:
    verdict = gate(replace(AT_REST, certain_at=11)).may(Act.CLOSE, REF, 10)

    assert isinstance(verdict, Wait)
    assert verdict.until == 11


def test_gate_tells_when_to_ask_again_while_a_migration_settles() -> None:
    verdict = gate(RUNS_ON_TARGET).may(Act.CLOSE, REF, 4.9)

    assert verdict == Wait("VM demo/fedora to settle after its migration", 5.0)
    assert gate(RUNS_ON_TARGET).may(Act.CLOSE, REF, 5.0) == Allowed()


def test_announced_migration_that_nobody_carries_out_is_named() -> None:
    facts = replace(
        AT_REST, migrations=(replace(MIGRATION, phase=MigrationPhase.ANNOUNCED, source_node=""),)
    )

    verdict = gate(facts).may(Act.UNBIND, REF, 600)

    assert isinstance(verdict, Wait)
    assert verdict.reason == (
        "the migration of VM demo/fedora, which is announced, to run or be cancelled"
    )


def test_dial_waits_for_node_name_to_flip_and_nothing_else_does() -> None:
    closed = {act for act in Act if isinstance(gate(RUNS_ON_TARGET).may(act, REF, 6), Wait)}

    assert closed == {Act.DIAL}


def test_first_bytes_wait_for_the_hello() -> None:
    verdict = gate(AT_REST).may(Act.ATTACH, REF, 10, greeted=False)

    assert verdict == Wait("the hello of VM demo/fedora", None)


def test_vm_without_qemu_cannot_be_harmed() -> None:
    facts = replace(IN_FLIGHT, vmi=replace(VMI, phase="Succeeded"))

    assert {gate(facts).may(act, REF, 10) for act in Act} == {Allowed()}


# -- each rule is needed ----------------------------------------------------------------------


@pytest.mark.parametrize("act", sorted(set(PLUGS) - set(CLOSES)))
def test_without_rule_1_devices_are_plugged_into_a_source_that_is_leaving(act: Act) -> None:
    assert gate(IN_FLIGHT, without(no_plugging_in_flight)).may(act, REF, 10) == Allowed()


@pytest.mark.parametrize("act", sorted(set(CLOSES) - set(PLUGS)))
def test_without_rule_2_links_are_closed_under_a_source_that_is_leaving(act: Act) -> None:
    assert gate(IN_FLIGHT, without(no_closing_in_flight)).may(act, REF, 10) == Allowed()


def test_unbind_is_held_by_rule_1_and_by_rule_2() -> None:
    both = without(no_plugging_in_flight, no_closing_in_flight)

    assert gate(IN_FLIGHT, both).may(Act.UNBIND, REF, 10) == Allowed()
    for rule in (no_plugging_in_flight, no_closing_in_flight):
        verdict = gate(IN_FLIGHT, without(rule)).may(Act.UNBIND, REF, 10)
        assert isinstance(verdict, Wait)


def test_without_the_end_of_rule_1_a_dial_leads_to_the_source_again() -> None:
    assert gate(RUNS_ON_TARGET, without(dial_leads_to_target)).may(Act.DIAL, REF, 6) == Allowed()


def test_without_rule_3_the_first_byte_goes_before_the_hello() -> None:
    rules = without(silent_until_hello)

    assert gate(AT_REST, rules).may(Act.ATTACH, REF, 10, greeted=False) == Allowed()


@pytest.mark.parametrize("act", Act)
def test_without_the_rule_of_doubt_an_unseen_migration_stops_nobody(act: Act) -> None:
    assert gate(UNSEEN, without(nothing_unseen)).may(act, REF, 10) == Allowed()


# -- along recorded time-lines ----------------------------------------------------------------


def open_times(steps: list[Step], act: Act) -> list[tuple[float, bool]]:
    """Return for each step of a time-line whether an act is allowed right after it."""
    tracker = MigrationTracker()
    ref = traces.ref_of(steps)
    times: list[tuple[float, bool]] = []
    for step in steps:
        tracker.handle(step.event, step.at_s)
        if not times:
            tracker.handle(WatchRestored(), step.at_s)
        verdict = Gate(tracker.facts).may(act, ref, step.at_s)
        times.append((step.at_s, verdict == Allowed()))
    return times


@pytest.mark.parametrize("name", traces.ALL)
@pytest.mark.parametrize("act", Act)
def test_gate_shuts_with_the_announcement_of_a_migration(name: str, act: Act) -> None:
    (_before, open_before), (_announced, open_then), *_ = open_times(traces.named(name), act)

    assert open_before
    assert not open_then


@pytest.mark.parametrize("act", Act)
def test_gate_stays_shut_along_a_whole_migration(act: Act) -> None:
    # Recorded: announced at 0, target ready at 0.635, nodeName flips at 0.841.
    shut = [at for at, is_open in open_times(traces.named("normal"), act) if not is_open]

    assert shut == [step.at_s for step in traces.named("normal") if step.at_s >= 0]


@pytest.mark.parametrize(("name", "failed_at_s"), [("cancelled", 1.221), ("failed", 1.294)])
@pytest.mark.parametrize("act", Act)
def test_gate_opens_at_once_when_a_migration_is_broken_off(
    name: str, failed_at_s: float, act: Act
) -> None:
    opened = [at for at, is_open in open_times(traces.named(name), act) if is_open and at >= 0]

    assert opened[0] == failed_at_s
    assert opened == [step.at_s for step in traces.named(name) if step.at_s >= failed_at_s]
