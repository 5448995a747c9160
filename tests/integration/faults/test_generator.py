"""The generator of the fault run."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.faults import Kind, faults

SEEDS = st.integers(min_value=0, max_value=2**32)


@given(seed=SEEDS)
def test_the_same_seed_gives_the_same_faults(seed: int) -> None:
    assert list(faults(seed, 40, 64)) == list(faults(seed, 40, 64))


def test_another_seed_gives_other_faults() -> None:
    assert list(faults(1, 40, 64)) != list(faults(2, 40, 64))


@given(seed=SEEDS)
def test_each_kind_comes_once_before_one_comes_again(seed: int) -> None:
    first = [fault.kind for fault in faults(seed, len(Kind), 64)]

    assert Counter(first) == dict.fromkeys(Kind, 1)


@given(seed=SEEDS, seconds=st.integers(0, 40), victims=st.integers(1, 64))
def test_one_fault_begins_in_each_second_and_hits_somebody_who_is_there(
    seed: int, seconds: int, victims: int
) -> None:
    found = list(faults(seed, seconds, victims))

    assert [int(fault.at_s) for fault in found] == list(range(seconds))
    assert all(0 <= fault.victim < victims for fault in found)


@given(seed=SEEDS)
def test_no_fault_lasts_for_more_than_half_a_minute(seed: int) -> None:
    assert all(0 <= fault.lasts_s <= 30 for fault in faults(seed, 300, 64))


@pytest.mark.parametrize("seed", range(10))
def test_in_five_minutes_all_kinds_come_several_times(seed: int) -> None:
    counts = Counter(fault.kind for fault in faults(seed, 300, 64))

    assert min(counts[kind] for kind in Kind) >= 2
