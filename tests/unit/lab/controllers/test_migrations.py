from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.controllers import migrations
from kubectl_vmredir.lab.controllers.writes import AskAgain, Create, Delete, Patch
from kubectl_vmredir.lab.objects import Collection
from tests.support.lab_objects import CREATED, pod, vmi, vmim

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.controllers.writes import Wish

NOW = datetime.fromisoformat(CREATED)
NONROOT = {"kubevirt.io/nonroot": "true"}
STATE = {"migrationUid": "uid-move", "targetPod": "target"}
SOURCE = pod("source")
TARGET = pod("target", node="node2", job="uid-move")
UNBOUND = pod(
    "target",
    node=None,
    phase="Pending",
    job="uid-move",
    conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}],
)
SCHEDULED = {"migrationState": {"sourcePod": "source"}}


def decide(
    move: JsonObject,
    instance: JsonObject | None = None,
    pods: Sequence[JsonObject] = (SOURCE, TARGET),
    siblings: Sequence[JsonObject] = (),
) -> Wish | None:
    return migrations.decide(
        move, instance or vmi(annotations=NONROOT), pods, [move, *siblings], NOW
    )


def phase_of(wish: Wish | None) -> str:
    assert isinstance(wish, Patch)
    assert (wish.collection, wish.subresource) == (Collection.VMIMS, "status")
    return str(wish.change["status"]["phase"])


def state_of(wish: Wish | None) -> JsonObject:
    assert isinstance(wish, Patch)
    assert wish.collection is Collection.VMIS
    state: JsonObject = wish.change["status"]["migrationState"]
    return state


def test_a_new_migration_is_marked_first() -> None:
    wish = decide(vmim(observed=False, finalizers=None), pods=[SOURCE])

    assert isinstance(wish, Patch)
    metadata = wish.change["metadata"]
    assert metadata["finalizers"] == [objects.VMIM_FINALIZER]
    assert metadata["labels"] == {objects.VMI_NAME: "desk"}


def test_pending_names_the_source_pod() -> None:
    wish = decide(vmim(), pods=[SOURCE])

    assert phase_of(wish) == "Pending"
    assert isinstance(wish, Patch)
    assert wish.change["status"]["migrationState"] == {"sourcePod": "source"}


def test_source_of_a_vmi_that_was_only_starting_is_named_as_soon_as_it_runs() -> None:
    wish = decide(vmim("Pending"), pods=[SOURCE, TARGET])

    assert phase_of(wish) == "Scheduling"
    assert isinstance(wish, Patch)
    assert wish.change["status"]["migrationState"] == {"sourcePod": "source"}


def test_the_vmi_is_made_non_root_before_there_is_a_target() -> None:
    wish = decide(vmim("Pending"), vmi(), pods=[SOURCE])

    assert isinstance(wish, Patch)
    assert wish.change == {"metadata": {"annotations": NONROOT}}


def test_the_target_pod_keeps_away_from_the_source_and_is_of_this_migration() -> None:
    wish = decide(vmim("Pending"), pods=[SOURCE])

    assert isinstance(wish, Create)
    assert objects.label(wish.obj, objects.MIGRATION_JOB_UID) == "uid-move"
    assert objects.label(wish.obj, objects.CREATED_BY) == "uid-desk"
    (term,) = wish.obj["spec"]["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert term["labelSelector"]["matchLabels"] == {objects.CREATED_BY: "uid-desk"}


@pytest.mark.parametrize(
    ("before", "state", "after"),
    [
        ("Pending", None, "Scheduling"),
        ("Scheduling", None, "Scheduled"),
        ("Scheduled", STATE, "PreparingTarget"),
        ("PreparingTarget", STATE | {"targetNodeAddress": "127.0.0.1"}, "TargetReady"),
        ("TargetReady", STATE | {"startTimestamp": CREATED}, "Running"),
        ("Running", STATE | {"completed": True}, "Succeeded"),
        ("Running", STATE | {"completed": True, "failed": True}, "Failed"),
    ],
)
def test_phases_follow_what_is(before: str, state: JsonObject | None, after: str) -> None:
    assert phase_of(decide(vmim(before), vmi(state=state, annotations=NONROOT))) == after


@pytest.mark.parametrize("phase", ["PreparingTarget", "TargetReady", "Running"])
def test_phases_wait_for_the_nodes(phase: str) -> None:
    assert decide(vmim(phase), vmi(state=STATE)) is None


def test_the_hand_off_is_one_patch_that_replaces_the_state_whole() -> None:
    old = {"migrationUid": "uid-older", "completed": True, "endTimestamp": CREATED}

    wish = decide(vmim("Scheduled", status=SCHEDULED), vmi(state=old))

    state = state_of(wish)
    assert state["completed"] is None
    assert state["endTimestamp"] is None
    assert {key: state[key] for key in ("migrationUid", "sourceNode", "targetNode")} == {
        "migrationUid": "uid-move",
        "sourceNode": "node1",
        "targetNode": "node2",
    }
    assert (state["sourcePod"], state["targetPod"]) == ("source", "target")
    assert isinstance(wish, Patch)
    assert wish.change["metadata"] == {"labels": {objects.TARGET_NODE_NAME: "node2"}}


def test_another_migration_that_has_the_vmi_is_not_interfered_with() -> None:
    other = vmim("Running", name="other")
    taken = vmi(state={"migrationUid": "uid-other"}, annotations=NONROOT)

    assert phase_of(decide(vmim(), taken, siblings=[other])) == "Failed"
    assert decide(vmim("Pending"), taken, pods=[SOURCE], siblings=[other]) is None


def test_the_time_of_readiness_is_copied_to_the_target_pod() -> None:
    ready = vmi(state=STATE | {"targetNodeDomainReadyTimestamp": CREATED})

    wish = decide(vmim("Running"), ready)

    assert isinstance(wish, Patch)
    assert (wish.collection, wish.obj) == (Collection.PODS, TARGET)


# -- holding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "pods"),
    [("Pending", [SOURCE]), ("Scheduling", [SOURCE, TARGET]), ("Scheduled", [SOURCE, TARGET])],
)
def test_a_step_at_which_it_is_held_is_said_once_and_the_next_is_not_begun(
    phase: str, pods: Sequence[JsonObject]
) -> None:
    step = phase.lower()
    said = {"lab.vmredir.io/held-at": step}

    wish = decide(vmim(phase, hold_at=step), pods=pods)

    assert isinstance(wish, Patch)
    assert wish.change == {"metadata": {"annotations": said}}
    assert decide(vmim(phase, hold_at=step, annotations=said), pods=pods) is None


def test_the_word_is_taken_back_when_it_is_let_go() -> None:
    wish = decide(vmim("Pending", annotations={"lab.vmredir.io/held-at": "pending"}))

    assert isinstance(wish, Patch)
    assert wish.change == {"metadata": {"annotations": {"lab.vmredir.io/held-at": None}}}


def test_an_unknown_step_holds_nothing() -> None:
    assert isinstance(decide(vmim("Pending", hold_at="tea-break"), pods=[SOURCE]), Create)


# -- coming to an end ------------------------------------------------------------------------------


def test_cancelled_before_the_hand_off_the_target_pod_goes_first() -> None:
    cancelled = vmim("Scheduling", deletionTimestamp=CREATED)

    assert decide(cancelled) == Delete(Collection.PODS, TARGET)
    going = pod("target", node="node2", job="uid-move", deletionTimestamp=CREATED)
    wish = decide(cancelled, pods=[SOURCE, going])
    assert phase_of(wish) == "Failed"
    assert isinstance(wish, Patch)
    assert wish.change["status"]["conditions"][0]["type"] == "migrationAbortRequested"


def test_cancelled_while_it_runs_the_abort_is_asked_for_and_then_told() -> None:
    cancelled = vmim("Running", deletionTimestamp=CREATED)

    assert state_of(decide(cancelled, vmi(state=STATE))) == {"abortRequested": True}
    wish = decide(cancelled, vmi(state=STATE | {"abortRequested": True}))
    assert isinstance(wish, Patch)
    assert wish.change["status"]["conditions"][0]["type"] == "migrationAbortRequested"


def test_the_request_to_abort_is_told_before_the_failure_that_it_led_to() -> None:
    failed = vmi(state=STATE | {"abortRequested": True, "failed": True, "completed": True})

    wish = decide(vmim("Running", deletionTimestamp=CREATED), failed)
    assert isinstance(wish, Patch)
    assert "phase" not in wish.change["status"]

    told = vmim("Running", status=wish.change["status"], deletionTimestamp=CREATED)
    assert phase_of(decide(told, failed)) == "Failed"


def test_cancelled_between_hand_off_and_start_it_goes_on_until_it_can_be_aborted() -> None:
    told = {"conditions": [{"type": "migrationAbortRequested", "status": "True"}]}
    cancelled = vmim("TargetReady", status=told, deletionTimestamp=CREATED)

    assert decide(cancelled, vmi(state=STATE)) is None
    started = vmi(state=STATE | {"startTimestamp": CREATED})
    assert phase_of(decide(cancelled, started)) == "Running"


def test_a_target_that_ends_before_a_node_began_is_put_on_record() -> None:
    ended = pod("target", node="node2", job="uid-move", phase="Failed")

    state = state_of(decide(vmim("PreparingTarget"), vmi(state=STATE), pods=[SOURCE, ended]))

    assert state["failed"] is True
    assert state["completed"] is True


def test_a_target_that_ends_later_fails_the_migration_only() -> None:
    started = vmi(state=STATE | {"startTimestamp": CREATED})

    assert phase_of(decide(vmim("Running"), started, pods=[SOURCE])) == "Failed"


def test_an_unschedulable_target_is_waited_for_until_its_time_is_over() -> None:
    limit = {"kubevirt.io/migrationUnschedulablePodTimeoutSeconds": "10"}

    wish = decide(vmim("Scheduling", annotations=limit), pods=[SOURCE, UNBOUND])

    assert wish == AskAgain(datetime.fromisoformat("2026-11-23T12:00:10Z"))
    at_once = {"kubevirt.io/migrationUnschedulablePodTimeoutSeconds": "0"}
    wish = decide(vmim("Scheduling", annotations=at_once), pods=[SOURCE, UNBOUND])
    assert wish == Delete(Collection.PODS, UNBOUND)
    assert phase_of(decide(vmim("Scheduling"), pods=[SOURCE])) == "Failed"


def test_five_minutes_are_the_default() -> None:
    wish = decide(vmim("Scheduling"), pods=[SOURCE, UNBOUND])

    assert wish == AskAgain(datetime.fromisoformat("2026-11-23T12:05:00Z"))


def test_a_vmi_that_ends_takes_its_migration_along() -> None:
    assert phase_of(decide(vmim("Running"), vmi("Failed", state=STATE))) == "Failed"


def test_a_finished_migration_keeps_the_state_then_lets_go_of_itself() -> None:
    state = STATE | {"completed": True}

    wish = decide(vmim("Succeeded"), vmi(state=state))
    assert isinstance(wish, Patch)
    assert wish.change == {"status": {"migrationState": state}}
    told = vmim("Succeeded", status={"migrationState": state})
    wish = decide(told, vmi(state=state))
    assert isinstance(wish, Patch)
    assert wish.change == {"metadata": {"finalizers": None}}


def test_the_oldest_of_six_finished_migrations_goes() -> None:
    finished = [
        vmim("Succeeded", name=f"move{number}", finalizers=None, status={"migrationState": {}})
        for number in range(6)
    ]

    wishes = [migrations.decide(move, vmi(), [SOURCE], finished, NOW) for move in finished]

    assert wishes == [Delete(Collection.VMIMS, finished[0]), *([None] * 5)]


def test_a_migration_of_nobody_is_deleted_and_let_go() -> None:
    orphan = vmim("Pending")

    assert migrations.decide(orphan, None, (), [orphan], NOW) == Delete(Collection.VMIMS, orphan)
    going = vmim("Pending", deletionTimestamp=CREATED)
    wish = migrations.decide(going, None, (), [going], NOW)
    assert isinstance(wish, Patch)
    assert wish.change == {"metadata": {"finalizers": None}}
