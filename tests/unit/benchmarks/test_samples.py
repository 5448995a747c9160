from __future__ import annotations

from collections.abc import Sequence

import pytest

from benchmarks.report import Report
from benchmarks.samples import MEASURES, Comparison, Run, Sample
from benchmarks.traffic import LOADS, TO_DEVICE

THROUGHPUT, ROUND_TRIP_TIME = MEASURES[1], MEASURES[2]


def samples(*seconds: float) -> Sequence[Sample]:
    """Return a run of each load per round, each of 1000 transfers."""
    return [
        Sample(load, Run(1000, took, took / 1000, took / 2), took / 4)
        for took in seconds
        for load in LOADS
    ]


def test_sample_in_numbers() -> None:
    sample = Sample(TO_DEVICE, Run(1000, 0.5, 0.001, 0.1), 0.2)

    assert sample.megabytes == pytest.approx(65.536)
    assert sample.mb_per_s == pytest.approx(131.072)
    assert sample.cpu_us_per_mb == pytest.approx(3051.8, abs=0.1)
    assert sample.cpu_us_per_transfer == pytest.approx(200)
    assert sample.round_trip_us == pytest.approx(1000)
    assert sample.far_end_busy == pytest.approx(0.2)


def test_client_and_peer_are_compared_round_by_round() -> None:
    # The machine became four times as slow between the rounds, for both.
    comparison = THROUGHPUT.compare(samples(1, 1, 4), samples(0.8, 0.8, 3.2))

    assert [comparison.low, comparison.ratio, comparison.high] == pytest.approx([0.8] * 3)


@pytest.mark.parametrize(
    ("seconds", "throughput_met", "round_trip_met"),
    [(1.0, True, True), (1.49, True, True), (1.51, True, False), (1.7, False, False)],
)
def test_less_throughput_and_a_longer_round_trip_are_missed_by_the_required_ratio(
    seconds: float, throughput_met: bool, round_trip_met: bool
) -> None:
    client, peer = samples(seconds, seconds), samples(1, 1)

    assert THROUGHPUT.compare(client, peer).met is throughput_met
    assert ROUND_TRIP_TIME.compare(client, peer).met is round_trip_met


def report(*comparisons: Comparison) -> Report:
    return Report(samples(1.0), comparisons, packets=(), far_end_busy=0.5, rounds=2)


def test_report_is_ok_unless_a_required_ratio_is_missed() -> None:
    good, bad = (
        [measure.compare(samples(took, took), samples(1, 1)) for measure in MEASURES]
        for took in (1.1, 2)
    )

    assert report(*good).ok
    assert "MISSED" not in report(*good).to_text()
    assert not report(*good, bad[0]).ok
    assert report(*good, *bad).to_text().count("MISSED") == 3
    assert report(*good, *bad).to_json()["ok"] is False


def test_report_says_what_was_measured_of_the_far_end_alone() -> None:
    alone = report().to_json()["far_end_alone"]

    assert isinstance(alone, list)
    assert [entry["name"] for entry in alone] == [measure.name for measure in MEASURES[:3]]
    assert alone[2] == {"name": "round trip", "unit": "us", "value": 1000}
