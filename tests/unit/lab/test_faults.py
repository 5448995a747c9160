from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.lab.faults import Fault, NodeFaults


def test_faults_are_read_from_an_annotation() -> None:
    faults = NodeFaults.parse("full-slots, slow-flip=2.5")

    assert Fault.FULL_SLOTS in faults
    assert Fault.HANG not in faults
    assert faults.flip_delay_s == 2.5
    assert str(faults) == "full-slots,slow-flip=2.5"


def test_no_faults_slow_nothing() -> None:
    faults = NodeFaults.parse("")

    assert str(faults) == ""
    assert faults.flip_delay_s == 0
    assert math.isinf(faults.bytes_per_s)


@pytest.mark.parametrize(
    "text",
    ["tea-break", "slow-flip", "hang=1", "slow-flip=soon", "slow-flip=nan", "slow-network=-1"],
)
def test_what_is_no_fault(text: str) -> None:
    with pytest.raises(ValueError, match=text.partition("=")[0] if "soon" not in text else "soon"):
        NodeFaults.parse(text)


def test_faults_come_and_go_one_by_one() -> None:
    both = NodeFaults().with_fault(Fault.SLOW_NETWORK, 1000).with_fault(Fault.GHOST_SLOT)

    assert both.bytes_per_s == 1000
    assert str(both.without(Fault.SLOW_NETWORK)) == "ghost-slot"


@given(st.dictionaries(st.sampled_from(Fault), st.integers(0, 10**6).map(float)))
def test_what_is_written_is_read_again(active: dict[Fault, float]) -> None:
    faults = NodeFaults({f: number if f.takes_number else 0.0 for f, number in active.items()})

    assert NodeFaults.parse(str(faults)) == faults
