from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_vmredir.errors import ClusterUnreachable
from kubectl_vmredir.model import MigrationUid, MigrationView, VmimView, VmiRef, VmiUid, VmiView
from kubectl_vmredir.service.migration import (
    CATCH_UP_S,
    SETTLE_S,
    MigrationPhase,
    MigrationTracker,
)
from kubectl_vmredir.service.ports import (
    ClusterEvent,
    VmiGone,
    VmimGone,
    VmimSeen,
    VmiSeen,
    WatchLost,
    WatchRestored,
)
from tests.support import traces
from tests.support.traces import Step

REF = VmiRef("demo", "fedora")
FIRST, SECOND = MigrationUid("m1"), MigrationUid("m2")
VMI = VmiView(REF, VmiUid("v1"), phase="Running", node="node1")
HANDED_OFF = MigrationView(FIRST, source_node="node1", target_node="node2")
COPYING = replace(HANDED_OFF, start_timestamp="t1", mode="PreCopy")
DETECTED = replace(COPYING, target_domain_detected=True)
READY = replace(DETECTED, target_domain_ready_timestamp="t2")
COMPLETED = replace(READY, completed=True)
FAILED = replace(DETECTED, failed=True, completed=True, failure_reason="no")
LOST = WatchLost(ClusterUnreachable("the API server is away"))


def vmi(migration: MigrationView | None = None, node: str = "node1", **other: object) -> VmiSeen:
    return VmiSeen(replace(VMI, migration=migration, node=node, **other))  # type: ignore[arg-type]


def vmim(phase: str = "", uid: MigrationUid = FIRST, *, deleting: bool = False) -> VmimSeen:
    return VmimSeen(VmimView("demo", f"vmim-{uid}", uid, "fedora", phase, deleting=deleting))


def gone(seen: VmimSeen) -> VmimGone:
    return VmimGone(seen.vmim)


def told(*events: ClusterEvent, at: float = 0.0) -> MigrationTracker:
    """Return a tracker that was told of the VMI, and then of these events, all at one time."""
    tracker = MigrationTracker()
    for event in (VmiSeen(VMI), WatchRestored(), *events):
        tracker.handle(event, at)
    return tracker


def in_flight(tracker: MigrationTracker, now: float) -> bool:
    return tracker.facts(REF).in_flight(now) is not None


def phase(tracker: MigrationTracker) -> MigrationPhase:
    return tracker.facts(REF).migrations[-1].phase


# -- phases -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (vmim(), MigrationPhase.ANNOUNCED),
        (vmi(HANDED_OFF), MigrationPhase.HANDED_OFF),
        (vmi(COPYING), MigrationPhase.COPYING),
        (vmi(DETECTED), MigrationPhase.TARGET_DETECTED),
        (vmi(READY), MigrationPhase.TARGET_READY),
        (vmi(READY, "node2"), MigrationPhase.NODE_FLIPPED),
        (vmi(COMPLETED, "node2"), MigrationPhase.COMPLETED),
        (vmi(FAILED), MigrationPhase.FAILED),
        (vmi(replace(FAILED, abort_requested=True)), MigrationPhase.ABORTED),
        (vmi(replace(DETECTED, abort_status="Succeeded")), MigrationPhase.ABORTED),
        (vmi(replace(DETECTED, abort_status="Aborting")), MigrationPhase.TARGET_DETECTED),
        (vmi(replace(DETECTED, abort_status="Failed")), MigrationPhase.TARGET_DETECTED),
    ],
)
def test_phase_is_the_furthest_that_the_vmi_gives_evidence_of(
    event: ClusterEvent, expected: MigrationPhase
) -> None:
    tracker = told(event)

    assert phase(tracker) is expected


def test_phase_never_goes_back_when_an_old_state_is_told_again() -> None:
    tracker = told(vmi(DETECTED), vmi(HANDED_OFF), vmi(None))

    assert phase(tracker) is MigrationPhase.TARGET_DETECTED
    assert in_flight(tracker, 0)


# -- when rule 1 opens again ------------------------------------------------------------------


@pytest.mark.parametrize("event", [vmim(), vmim("Pending"), vmi(HANDED_OFF), vmi(DETECTED)])
def test_unfinished_migration_is_in_flight_for_as_long_as_nothing_more_is_known(
    event: ClusterEvent,
) -> None:
    tracker = told(event)

    assert in_flight(tracker, 1e9)
    assert tracker.facts(REF).migrations[-1].reopens_at is None


def test_flight_ends_one_second_after_the_target_was_first_seen_ready() -> None:
    tracker = told(vmi(DETECTED))
    tracker.handle(vmi(READY), 10)
    tracker.handle(vmi(READY), 10.5)
    tracker.handle(vmi(READY, "node2"), 10.8)

    assert in_flight(tracker, 10 + SETTLE_S - 0.001)
    assert not in_flight(tracker, 10 + SETTLE_S)


@pytest.mark.parametrize(
    "event",
    [
        vmi(READY, "node2"),
        vmi(COMPLETED, "node2"),
        vmi(replace(COMPLETED, target_domain_ready_timestamp=""), "node2"),
        vmim("Succeeded"),
    ],
)
def test_what_is_further_than_ready_counts_as_ready_if_ready_itself_was_missed(
    event: ClusterEvent,
) -> None:
    tracker = told(vmi(DETECTED))
    tracker.handle(event, 10)

    assert in_flight(tracker, 10.9)
    assert not in_flight(tracker, 11)


@pytest.mark.parametrize(
    "event",
    [
        vmi(FAILED),
        vmi(replace(FAILED, abort_requested=True, abort_status="Succeeded")),
        vmi(replace(DETECTED, abort_status="Succeeded")),
        vmim("Failed"),
    ],
)
def test_flight_ends_at_once_when_failure_or_abort_is_seen_on_either_object(
    event: ClusterEvent,
) -> None:
    tracker = told(vmim("Running"), vmi(DETECTED))
    tracker.handle(event, 10)

    assert not in_flight(tracker, 10)


def test_abort_that_is_only_asked_for_ends_nothing() -> None:
    tracker = told(
        vmim("Running"),
        vmi(replace(DETECTED, abort_requested=True, abort_status="Aborting")),
        vmim("Running", deleting=True),
    )

    assert in_flight(tracker, 1e9)


def test_migration_that_fails_before_the_hand_off_is_over_at_once() -> None:
    tracker = told(vmim("Scheduling"))
    tracker.handle(vmim("Failed"), 10)

    assert not in_flight(tracker, 10)


def test_migration_object_that_goes_without_a_verdict_gets_the_second_to_settle() -> None:
    tracker = told(vmim("Running"), vmi(DETECTED))
    tracker.handle(gone(vmim("Running")), 10)

    assert in_flight(tracker, 10.9)
    assert not in_flight(tracker, 11)


def test_success_seen_after_the_migration_object_went_still_settles() -> None:
    tracker = told(vmim("Running"), vmi(DETECTED))
    tracker.handle(gone(vmim("Running")), 10)
    tracker.handle(vmi(READY), 20)

    assert in_flight(tracker, 20.9)
    assert not in_flight(tracker, 21)


def test_post_copy_is_over_when_the_target_runs_though_pages_still_come() -> None:
    tracker = told(vmi(replace(DETECTED, mode="PostCopy")))
    tracker.handle(vmi(replace(READY, mode="PostCopy")), 10)

    facts = tracker.facts(REF)
    assert facts.migrations[-1].mode == "PostCopy"
    assert not in_flight(tracker, 11)
    assert facts.migrations[-1].flip_awaited


# -- history ----------------------------------------------------------------------------------


def test_migration_that_was_completed_before_we_looked_is_history() -> None:
    tracker = MigrationTracker()
    tracker.handle(vmim("Succeeded"), 0)
    tracker.handle(vmi(COMPLETED, "node2"), 0)

    assert not in_flight(tracker, 0)
    assert tracker.facts(REF).successes == 0


def test_migration_of_which_only_the_end_is_seen_settles_if_the_vmi_was_known_before() -> None:
    tracker = told(LOST, WatchRestored())
    tracker.handle(vmi(COMPLETED, "node2"), 10)

    assert in_flight(tracker, 10.9)
    assert not in_flight(tracker, 11)
    assert tracker.facts(REF).successes == 1


def test_unfinished_migration_is_in_flight_at_the_first_sight_of_the_vmi() -> None:
    tracker = MigrationTracker()
    tracker.handle(vmi(DETECTED), 0)

    assert in_flight(tracker, 1e9)


def test_finished_migration_object_of_which_nothing_was_known_says_nothing() -> None:
    tracker = told(vmim("Failed", SECOND), vmim("Succeeded", MigrationUid("m3")))

    assert tracker.facts(REF).migrations == ()


# -- one after the other ----------------------------------------------------------------------


def test_second_migration_is_in_flight_while_the_state_of_the_first_stays_completed() -> None:
    tracker = told(vmim("Running"), vmi(READY))
    tracker.handle(vmi(COMPLETED, "node2"), 10)
    tracker.handle(vmim("", SECOND), 20)
    tracker.handle(vmi(COMPLETED, "node2"), 20)

    flying = tracker.facts(REF).in_flight(1e9)
    assert flying is not None
    assert flying.uid == SECOND


def test_hand_off_of_the_second_ends_the_first_whatever_was_missed_of_it() -> None:
    second = replace(HANDED_OFF, uid=SECOND, source_node="node2", target_node="node1")
    tracker = told(vmi(DETECTED))
    tracker.handle(vmi(second, "node2"), 10)
    tracker.handle(vmi(replace(second, failed=True), "node2"), 20)

    assert not in_flight(tracker, 20)
    assert [migration.uid for migration in tracker.facts(REF).migrations] == [SECOND]


def test_each_migration_that_moved_the_vm_counts_once() -> None:
    second = replace(READY, uid=SECOND, source_node="node2", target_node="node1")
    tracker = told(
        vmi(READY),
        vmi(READY, "node2"),
        vmi(COMPLETED, "node2"),
        vmi(COMPLETED, "node2"),
        vmim("Succeeded"),
        vmi(second, "node2"),
        vmi(second, "node1"),
    )

    assert tracker.facts(REF).successes == 2


def test_finished_migrations_are_forgotten_when_nothing_names_them() -> None:
    tracker = told()
    for number in range(100):
        uid = MigrationUid(f"m{number}")
        tracker.handle(vmim("", uid), number)
        tracker.handle(vmi(replace(COMPLETED, uid=uid), f"node{number % 2}"), number)
        tracker.handle(gone(vmim("Succeeded", uid)), number + 0.5)

    assert len(tracker.facts(REF).migrations) == 1


# -- the VMI itself ---------------------------------------------------------------------------


def test_vm_that_is_restarted_leaves_its_migration_behind() -> None:
    tracker = told(vmi(DETECTED))
    tracker.handle(vmi(None, uid=VmiUid("v2")), 10)

    assert not in_flight(tracker, 10)


def test_end_of_the_old_life_says_nothing_about_the_new_one() -> None:
    tracker = told(vmi(None, uid=VmiUid("v2")))
    tracker.handle(VmiGone(VMI), 10)

    found = tracker.facts(REF).vmi
    assert found is not None
    assert found.uid == "v2"


@pytest.mark.parametrize("event", [vmi(DETECTED, phase="Succeeded"), VmiGone(VMI)])
def test_vm_that_has_no_qemu_is_not_in_flight(event: ClusterEvent) -> None:
    # Phase Succeeded is how the source of a decentralised migration ends.
    tracker = told(vmim("Synchronizing"), vmi(DETECTED))
    tracker.handle(event, 10)

    assert tracker.facts(REF).ended
    assert not in_flight(tracker, 10)


def test_nodes_of_one_name_in_two_clusters_are_no_flip() -> None:
    tracker = told(vmi(replace(DETECTED, target_node="node1")))

    assert phase(tracker) is MigrationPhase.TARGET_DETECTED
    assert in_flight(tracker, 1e9)


def test_migration_object_outlasts_the_vmi_that_it_names() -> None:
    tracker = told(vmim("Pending"))
    tracker.handle(VmiGone(VMI), 10)
    tracker.handle(vmi(None, uid=VmiUid("v2")), 20)

    assert in_flight(tracker, 20)


# -- watches that break -----------------------------------------------------------------------


def test_nothing_is_certain_before_the_watch_has_told_everything() -> None:
    tracker = MigrationTracker()
    tracker.handle(VmiSeen(VMI), 0)

    assert not tracker.facts(REF).certain(1e9)

    tracker.handle(WatchRestored(), 0)

    assert tracker.facts(REF).certain(0)


def test_watch_that_comes_back_has_a_second_to_tell_what_it_missed() -> None:
    tracker = told()
    tracker.handle(LOST, 5)

    assert not tracker.facts(REF).certain(1e9)
    assert tracker.facts(REF).doubt == "the API server is away"

    tracker.handle(WatchRestored(), 10)

    assert not tracker.facts(REF).certain(10 + CATCH_UP_S - 0.001)
    assert tracker.facts(REF).certain(10 + CATCH_UP_S)
    assert tracker.facts(REF).doubt == ""


def test_lost_watch_forgets_nothing() -> None:
    tracker = told(vmim("Running"), vmi(DETECTED), LOST, WatchRestored())

    assert in_flight(tracker, 1e9)


def test_what_another_watch_does_not_tell_again_is_gone() -> None:
    tracker = told(vmim("Running"), vmi(DETECTED))
    tracker.begin()

    assert not tracker.facts(REF).certain(1e9)

    tracker.handle(vmi(DETECTED), 10)
    tracker.handle(WatchRestored(), 10)

    assert in_flight(tracker, 10.9)
    assert not in_flight(tracker, 11)

    tracker.begin()
    tracker.handle(WatchRestored(), 20)

    assert tracker.facts(REF).vmi is None


# -- recorded time-lines ----------------------------------------------------------------------

ENDINGS = {
    "normal": [MigrationPhase.COMPLETED],
    "second": [MigrationPhase.COMPLETED],
    "old-dialect": [MigrationPhase.COMPLETED],
    "cancelled": [MigrationPhase.ABORTED],
    "cancelled-early": [],  # it leaves nothing behind
    "failed": [MigrationPhase.FAILED],
    "unschedulable": [MigrationPhase.FAILED],
}


def replay(steps: list[Step]) -> Iterator[tuple[float, ClusterEvent, MigrationTracker]]:
    """Tell a tracker one step after the other."""
    tracker = MigrationTracker()
    for number, step in enumerate(steps):
        tracker.handle(step.event, step.at_s)
        if number == 0:
            tracker.handle(WatchRestored(), step.at_s)
        yield step.at_s, step.event, tracker


@pytest.mark.parametrize("name", traces.ALL)
def test_recorded_migration_is_in_flight_from_its_announcement_to_its_end(name: str) -> None:
    steps = traces.named(name)
    ref = traces.ref_of(steps)
    seen: list[MigrationPhase] = []
    tracker = MigrationTracker()
    for at, _event, tracker in replay(steps):
        flying = tracker.facts(ref).in_flight(at)
        if flying is not None and flying.phase not in seen:
            seen.append(flying.phase)
    last = [migration.phase for migration in tracker.facts(ref).migrations]

    assert seen[0] is MigrationPhase.ANNOUNCED
    assert last[-1:] == ENDINGS[name]
    assert tracker.facts(ref).in_flight(steps[-1].at_s + SETTLE_S) is None


@pytest.mark.parametrize(("name", "moves"), [("normal", 1), ("second", 2), ("old-dialect", 1)])
def test_recorded_successes_are_counted(name: str, moves: int) -> None:
    steps = traces.named(name)
    *_, (_at, _event, tracker) = replay(steps)

    assert tracker.facts(traces.ref_of(steps)).successes == moves


def test_cold_route_is_known_to_lead_to_the_source_until_node_name_flips() -> None:
    awaited = []
    steps = traces.named("normal")
    for at, _event, tracker in replay(steps):
        if any(
            migration.flip_awaited for migration in tracker.facts(traces.ref_of(steps)).migrations
        ):
            awaited.append(at)

    assert awaited == [0.635]  # ready; the flip comes at 0.841


class Oracle:
    """Rule 1 in its own words, from what was told so far; knows nothing of the tracker."""

    def __init__(self) -> None:
        self._first_seen: dict[MigrationUid, float] = {}
        self._over: dict[MigrationUid, float] = {}

    def tell(self, event: ClusterEvent, now: float) -> None:
        match event:
            case VmiSeen(vmi=VmiView(migration=MigrationView() as state)):
                ended = state.failed or state.abort_status == "Succeeded"
                ready = bool(state.target_domain_ready_timestamp) or state.completed
                self._note(state.uid, now, ended=ended, ready=ready)
            case VmimSeen(vmim=migration):
                failed, succeeded = migration.phase == "Failed", migration.phase == "Succeeded"
                self._note(migration.uid, now, ended=failed, ready=succeeded)
            case VmimGone(vmim=migration):
                self._note(migration.uid, now, ended=True, ready=False)
            case _:
                pass

    def _note(self, uid: MigrationUid, now: float, *, ended: bool, ready: bool) -> None:
        if not (ended or ready):
            self._first_seen.setdefault(uid, now)
        over = now if ended else now + 1 if ready else float("inf")
        self._over[uid] = min(over, self._over.get(uid, float("inf")))

    def in_flight(self, now: float) -> bool:
        return any(self._over[uid] > now >= since for uid, since in self._first_seen.items())


def key(event: ClusterEvent) -> str:
    """Return which object an event is about."""
    match event:
        case VmiSeen(vmi=vmi) | VmiGone(vmi=vmi):
            return vmi.uid
        case VmimSeen(vmim=vmim) | VmimGone(vmim=vmim):
            return vmim.uid
        case _:
            raise AssertionError(event)


def mangled(steps: list[Step], chance: random.Random) -> list[tuple[float, ClusterEvent]]:
    """Return what another watch may have told of the same history.

    An event is dropped only if a later one of the same object comes; the two streams are shifted
    against each other, events repeat, and the watch breaks now and then.
    """
    delay = {"vmi": chance.uniform(0, 0.3), "vmim": chance.uniform(0, 0.3)}
    arriving = []
    for number, step in enumerate(steps):
        later = [key(other.event) for other in steps[number + 1 :]]
        if number > 0 and key(step.event) in later and chance.random() < 0.4:
            continue
        kind = "vmi" if isinstance(step.event, VmiSeen | VmiGone) else "vmim"
        arriving.append((step.at_s + delay[kind], step.event))
    arriving.sort(key=lambda item: item[0])
    told: list[tuple[float, ClusterEvent]] = []
    for at, event in arriving:
        told.append((at, event))
        if chance.random() < 0.3 and not isinstance(event, VmimGone):
            told.append((at, event))
        if chance.random() < 0.1:
            told += [(at, LOST), (at, WatchRestored())]
    return told


@pytest.mark.parametrize("name", traces.ALL)
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32))
def test_flight_is_never_over_while_what_was_told_says_it_is_not(name: str, seed: int) -> None:
    steps = traces.named(name)
    ref = traces.ref_of(steps)
    tracker, oracle = MigrationTracker(), Oracle()

    def is_safe(now: float) -> bool:
        return tracker.facts(ref).in_flight(now) is not None or not oracle.in_flight(now)

    for at, event in mangled(steps, random.Random(seed)):
        assert is_safe(at)
        tracker.handle(event, at)
        oracle.tell(event, at)
        assert is_safe(at)
    assert all(is_safe(at + ahead / 10) for ahead in range(11))
    assert not tracker.facts(ref).in_flight(at + SETTLE_S)
