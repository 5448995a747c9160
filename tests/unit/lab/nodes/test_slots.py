from __future__ import annotations

from kubectl_vmredir.lab.nodes.slots import Sessions, Slots
from kubectl_vmredir.model import VmiUid

DESK, SHELF = VmiUid("desk"), VmiUid("shelf")


def test_slots_are_handed_out_in_order_until_all_four_are_taken() -> None:
    slots = Slots()

    assert [slots.claim(DESK) for _ in range(5)] == [0, 1, 2, 3, None]


def test_a_freed_slot_is_the_next_one() -> None:
    slots = Slots()
    for _ in range(3):
        slots.claim(DESK)

    slots.free(DESK, 1)

    assert slots.claim(DESK) == 1
    assert slots.claim(DESK) == 3


def test_each_vmi_has_its_own_slots() -> None:
    slots = Slots()
    slots.claim(DESK)

    assert slots.claim(SHELF) == 0


def test_the_newest_session_wins() -> None:
    sessions = Sessions()

    with sessions.take(DESK) as older:
        assert not older.is_set()
        with sessions.take(DESK) as newer:
            assert older.is_set()
            assert not newer.is_set()


def test_the_end_of_an_older_session_leaves_the_newer_one() -> None:
    sessions = Sessions()
    older = sessions.take(DESK)
    older.__enter__()

    with sessions.take(DESK):
        older.__exit__(None, None, None)
        assert sessions.active(DESK)
    assert not sessions.active(DESK)
