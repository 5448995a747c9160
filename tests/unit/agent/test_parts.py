from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.agent.parts import PART_ITEMS, in_parts, joined
from kubectl_vmredir.model import VmiRef, VmiUid, VmiView
from kubectl_vmredir.service.interface import (
    ClosingWaits,
    Snapshot,
    VmiSlots,
    VmisSeen,
)


def vms(count: int) -> tuple[VmiSlots, ...]:
    return tuple(
        VmiSlots(VmiView(VmiRef("demo", f"vm{number}"), VmiUid(str(number)), "Running", "n"), ())
        for number in range(count)
    )


@given(count=st.integers(0, PART_ITEMS * 4), as_list=st.booleans())
def test_parts_are_short_and_joined_again_the_value(count: int, as_list: bool) -> None:
    value = list(vms(count)) if as_list else VmisSeen(vms(count))

    parts = in_parts(value)

    sizes = [len(part) if isinstance(part, list) else len(part.vmis) for part in parts]
    assert sum(sizes) == count
    assert max(sizes) <= PART_ITEMS
    assert len(parts) == max(1, -(-count // PART_ITEMS))
    whole = joined(parts)
    assert (list(whole) if as_list else whole) == value


@pytest.mark.parametrize(
    "value", [None, 7, "text", (), Snapshot(()), ClosingWaits(()), VmiRef("demo", "desk")], ids=repr
)
def test_what_is_short_is_one_part(value: object) -> None:
    assert in_parts(value) == [value]
    assert joined([value]) == value


def test_what_is_besides_the_list_is_kept() -> None:
    closing = Snapshot((), closing=())

    assert joined([Snapshot(()), closing]) == closing
