from __future__ import annotations

import pytest

from kubectl_vmredir.continuity.events import ReadGuest, ReadHost
from kubectl_vmredir.continuity.flow import Flow
from kubectl_vmredir.continuity.state import State


def flow(*, host_writable: bool, guest_writable: bool) -> Flow:
    made = Flow()
    made.host_writable, made.guest_writable = host_writable, guest_writable
    return made


@pytest.mark.parametrize(
    ("state", "host_full", "guest_full"),
    [
        (State.LIVE, [ReadGuest(False)], [ReadHost(False)]),
        (State.LOST, [], [ReadGuest(False)]),
        *((state, [], []) for state in State if state not in (State.LIVE, State.LOST)),
    ],
)
def test_a_side_that_takes_no_more_keeps_the_one_that_writes_to_it_from_being_read(
    state: State, host_full: list[object], guest_full: list[object]
) -> None:
    assert flow(host_writable=False, guest_writable=True).update(state) == host_full
    assert flow(host_writable=True, guest_writable=False).update(state) == guest_full


def test_what_is_so_already_is_not_said_again() -> None:
    full = flow(host_writable=False, guest_writable=False)

    assert full.update(State.LIVE) == [ReadHost(False), ReadGuest(False)]
    assert full.update(State.LIVE) == []
    assert full.update(State.DETACHED) == [ReadHost(True), ReadGuest(True)]


def test_the_next_link_starts_writable_and_read() -> None:
    full = flow(host_writable=False, guest_writable=False)
    full.update(State.LIVE)

    full.forget_link()

    assert full.update(State.GREETING) == [ReadHost(True)]
    assert full.update(State.LIVE) == [ReadGuest(False)]
