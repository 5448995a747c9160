"""Says what came out, to people and to programs."""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.samples import MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.packets import PacketCost
    from benchmarks.samples import Comparison, Measure, Sample


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was measured.

    Attributes:
        alone: The far end with nothing in the middle; several runs of each load.
        comparisons: Client against peer.
        packets: Cost of our own code.
        far_end_busy: The greatest share of the time in which a far end had a CPU, 0 to 1.
        rounds: How many there were.
    """

    alone: Sequence[Sample]
    comparisons: Sequence[Comparison]
    packets: Sequence[PacketCost]
    far_end_busy: float
    rounds: int

    @property
    def ok(self) -> bool:
        """Whether every ratio is as it must be."""
        return all(comparison.met for comparison in self.comparisons)

    def to_json(self) -> Mapping[str, object]:
        """Return it as one JSON object."""
        return {
            "ok": self.ok,
            "rounds": self.rounds,
            "far_end_alone": [
                {"name": measure.name, "unit": measure.unit, "value": round(value, 1)}
                for measure, value in self._alone()
            ],
            "far_end_busy": round(self.far_end_busy, 2),
            "comparisons": [_as_json(comparison) for comparison in self.comparisons],
            "packets": [dataclasses.asdict(cost) for cost in self.packets],
        }

    def to_text(self) -> str:
        """Return tables for people."""
        return "\n".join(
            [
                "The far end alone, with a usb-host that speaks TLS itself:",
                *table(
                    ("measure", "alone", ""),
                    [
                        (measure.name, f"{value:.0f}", measure.unit)
                        for measure, value in self._alone()
                    ],
                ),
                "",
                f"The client against a plain TLS copy, medians of {self.rounds} rounds "
                f"(far end busy for {self.far_end_busy:.0%} of the time at most):",
                *table(
                    ("measure", "client", "copy", "", "ratio", "quartiles", "required", "aim", ""),
                    [_row(comparison) for comparison in self.comparisons],
                ),
                "",
                "Span tracker, guard and continuity, CPU time per packet:",
                *table(
                    ("direction", "bytes", "us alone", "us together"),
                    [
                        (
                            cost.direction,
                            str(cost.size),
                            f"{cost.alone_us:.1f}",
                            f"{cost.together_us:.1f}",
                        )
                        for cost in self.packets
                    ],
                ),
            ]
        )

    def _alone(self) -> Iterator[tuple[Measure, float]]:
        """Yield the measures that do not need a process in the middle, with their medians."""
        for measure in MEASURES:
            if measure.required is not None:
                yield measure, statistics.median(measure.values(self.alone))


def _as_json(comparison: Comparison) -> Mapping[str, object]:
    measure = comparison.measure
    return {
        "name": measure.name,
        "unit": measure.unit,
        "client": round(comparison.client, 1),
        "peer": round(comparison.peer, 1),
        "ratio": round(comparison.ratio, 3),
        "quartiles": [round(comparison.low, 3), round(comparison.high, 3)],
        "required": measure.required,
        "aim": measure.aim,
        "met": comparison.met,
    }


def _row(comparison: Comparison) -> Sequence[str]:
    measure = comparison.measure
    sign = ">=" if measure.more_is_better else "<="
    return (
        measure.name,
        f"{comparison.client:.0f}",
        f"{comparison.peer:.0f}",
        measure.unit,
        f"{comparison.ratio:.2f}",
        f"{comparison.low:.2f} to {comparison.high:.2f}",
        "" if measure.required is None else f"{sign} {measure.required}",
        "" if measure.aim is None else f"{sign} {measure.aim}",
        "" if comparison.met else "MISSED",
    )


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Sequence[str]:
    """Return lines of text whose cells stand under each other."""
    lines = [titles, *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
