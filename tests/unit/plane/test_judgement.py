"""How the run on the real control plane judges what it saw."""

from __future__ import annotations

import dataclasses

import pytest

from kubectl_vmredir.model import DeviceSelector, RedirectionId, RedirectionState, VmiRef
from kubectl_vmredir.service.interface import Numbers, RedirectionStatus, Trouble
from tests.support.plane.report import Passage, Report, Row
from tests.support.plane.watching import Course, Sight

S = RedirectionState
STATUS = RedirectionStatus(
    RedirectionId("r1"), str(DeviceSelector()), "", VmiRef("demo", "vm1"), "stick", S.CONNECTED
)
PASSAGE = Passage(STATUS.id, "demo/vm1", "stick", True, True, 1.0, 2.0, None, ())


def course(*states: RedirectionState, bytes_down: int = 0) -> Course:
    """Return the course of a redirection that was up, and then looked like that."""
    begun = Course(0.0, STATUS)
    for state in (S.CONNECTED, *states):
        numbers = Numbers(bytes_down=bytes_down)
        begun.look(dataclasses.replace(STATUS, state=state, numbers=numbers))
    return begun


def report(passage: Passage, *, read_right: bool = True, log: str = "") -> Report:
    return Report.of([Row("virt-api killed", 5.0, (passage,))], read_right=read_right, log=log)


@pytest.mark.parametrize("states", [(), (S.MIGRATING, S.CONNECTED)])
def test_redirection_that_stays_up_is_not_hit(states: tuple[RedirectionState, ...]) -> None:
    seen = course(*states)

    assert (seen.hit, seen.back) == (False, True)


def test_redirection_that_was_stalled_is_back_when_it_is_connected() -> None:
    stalled, back = course(S.STALLED), course(S.STALLED, S.CONNECTED)

    assert (stalled.hit, stalled.back) == (True, False)
    assert (back.hit, back.relinked, back.back) == (True, False, True)


def test_redirection_that_was_dialed_anew_is_back_when_the_guest_asks_for_something() -> None:
    seen = course(S.HOLDING, S.DIALING, S.CONNECTED, bytes_down=7)
    assert (seen.relinked, seen.back) == (True, False)

    seen.count(Numbers(bytes_down=8))

    assert seen.back


def test_redirection_that_is_lost_again_is_not_back() -> None:
    seen = course(S.HOLDING, S.CONNECTED)
    seen.count(Numbers(bytes_down=8))

    seen.look(dataclasses.replace(STATUS, state=S.HOLDING))

    assert not seen.back


def test_what_was_said_is_the_trouble_before_the_reason() -> None:
    seen = Course(0.0, STATUS)
    trouble = Trouble("ClusterUnreachable", "virt-api is down", "", 4)

    seen.look(dataclasses.replace(STATUS, state=S.HOLDING, reason="again", trouble=trouble))

    assert [(sight.state, sight.why) for sight in seen.sights] == [(S.HOLDING, "virt-api is down")]


@pytest.mark.parametrize("state", [S.BLOCKED, S.PAUSED, S.STOPPED])
def test_redirection_that_waited_for_a_person_did_not_come_back_by_itself(
    state: RedirectionState,
) -> None:
    helped = dataclasses.replace(PASSAGE, sights=(Sight(0.5, state, ""),))

    assert report(PASSAGE).ok
    assert not report(helped).ok


def test_redirection_that_never_came_back_is_seen_in_the_table() -> None:
    lost = report(dataclasses.replace(PASSAGE, up_after_s=None, used_after_s=None))

    assert not lost.ok
    assert "| 1 NEVER | 1 NEVER | — |" in lost.to_text()


def test_wrong_content_and_errors_of_the_agent_are_failures() -> None:
    wrong = report(PASSAGE, read_right=False)
    broken = report(PASSAGE, log="2026-11-24 13:00:00,000 E kubectl_vmredir.service: a bug\n")

    assert not wrong.ok
    assert wrong.to_text().endswith("A guest did not read what is on its stick.")
    assert not broken.ok
    assert "a bug" in broken.to_text()


def test_table_says_what_redirections_showed_without_the_name_of_the_vm() -> None:
    why = "no way to VM demo/vm1: it | is down"
    shown = dataclasses.replace(
        PASSAGE, sights=(Sight(0.1, S.HOLDING, why), Sight(0.2, S.CONNECTED, ""))
    )

    line = report(shown).to_text().splitlines()[2]

    assert line == (
        "| virt-api killed | 5.0 s | 1 of 1 | `holding`: no way to the VM: it / is down "
        "| 1.0 to 1.0 s | 2.0 to 2.0 s | — |"
    )
