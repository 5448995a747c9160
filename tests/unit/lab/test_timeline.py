from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kubectl_vmredir.lab import timeline
from kubectl_vmredir.lab.timeline import Step
from tests.support.lab_objects import vmim

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_a_hold_lets_everything_up_to_its_step_begin() -> None:
    held = vmim(hold_at="detected")

    begun = [step for step in Step if timeline.may_begin(step, held)]

    assert begun == [
        Step.PENDING,
        Step.SCHEDULING,
        Step.SCHEDULED,
        Step.HANDED_OFF,
        Step.PREPARED,
        Step.STARTED,
        Step.DETECTED,
    ]


@pytest.mark.parametrize("move", [None, vmim(), vmim(hold_at="no-such-step")])
def test_without_a_hold_everything_may_begin(move: dict[str, object] | None) -> None:
    assert all(timeline.may_begin(step, move) for step in Step)


def test_kubevirt_1_6_flips_without_completing_and_1_5_does_both() -> None:
    flipped = timeline.node_flipped("node2", NOW)
    both = timeline.node_flipped("node2", NOW, completed=True)

    assert flipped == {
        "metadata": {"labels": {"kubevirt.io/nodeName": "node2"}},
        "status": {
            "migrationState": {"endTimestamp": "2026-11-23T12:00:00Z"},
            "nodeName": "node2",
            "evacuationNodeName": None,
            "launcherContainerImageVersion": None,
            "migrationTransport": "Unix",
        },
    }
    assert both["status"]["migrationState"]["completed"] is True


def test_failures_are_told_in_the_words_of_libvirt() -> None:
    state = timeline.failed(NOW, "Unable to write to socket: Broken pipe")["status"]

    assert state["migrationState"]["failureReason"] == (
        "virError(Code=9, Domain=10, Message='operation failed: job 'migration out' failed: "
        "Unable to write to socket: Broken pipe')"
    )


def test_an_aborted_migration_has_failed_too() -> None:
    assert timeline.aborted(NOW)["status"]["migrationState"] == {
        "abortStatus": "Succeeded",
        "completed": True,
        "failed": True,
        "endTimestamp": "2026-11-23T12:00:00Z",
        "failureReason": "Live migration has been aborted",
    }
