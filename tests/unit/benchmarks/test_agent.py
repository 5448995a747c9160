from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.agent import Delays, Report, Throughput, Turns

DELAYS = Delays.of([0.001] * 99 + [0.019])
REPORT = Report(
    alone=DELAYS,
    listing=DELAYS,
    turns=Turns(5.0, 9.0),
    lists=3,
    list_s=2.5,
    throughputs=[Throughput(1, 400.0, 1.0, 1.0), Throughput(64, 380.0, 0.95, 0.9)],
)


def test_delays_in_numbers() -> None:
    assert (DELAYS.packets, DELAYS.median_ms, DELAYS.p99_ms, DELAYS.most_ms) == (100, 1, 19, 19)


def test_turns_count_by_the_time_that_they_take() -> None:
    # One turn in a thousand, but 50 ms of 149.
    turns = Turns.of([0.0001] * 990 + [0.050])

    assert [turns.p99_ms, turns.most_ms] == pytest.approx([50, 50])
    assert Turns.of([0.001] * 200).p99_ms == pytest.approx(1)


def test_added_delay_is_counted_from_the_median_without_clients() -> None:
    assert REPORT.added_ms == pytest.approx(18)
    assert REPORT.ok


@pytest.mark.parametrize(
    "changes",
    [
        {"listing": replace(DELAYS, p99_ms=21.1)},
        {"throughputs": [Throughput(8, 1.0, 0.49, 1.0)]},
    ],
    ids=["delay", "throughput"],
)
def test_what_is_required_is_checked(changes: dict[str, object]) -> None:
    assert not replace(REPORT, **changes).ok  # type: ignore[arg-type]


def test_report_for_people_tells_all() -> None:
    text = REPORT.to_text()

    assert "added, 99 %: 18.0 ms (required: <= 20); 3 lists of 10,000 VMs, each in 2.5 s" in text
    assert "CPU time: 99 % 5.0 ms, most 9.0 ms" in text
    assert "64            380   0.95          0.90" in text
