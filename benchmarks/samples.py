"""What is measured in one run, and what that says of the client and its peer."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.traffic import FROM_DEVICE, ROUND_TRIP, TO_DEVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.traffic import Load


@dataclass(frozen=True, slots=True)
class Run:
    """What the far end saw of a run.

    Attributes:
        transfers: How many were answered.
        seconds: From the first request to the last answer.
        round_trip_s: Time from sending to receiving, the lower quartile: whatever else the
            machine does can only add to it. Means little with more than one transfer in flight.
        cpu_s: CPU time that the far end took.
    """

    transfers: int
    seconds: float
    round_trip_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of a load on a path.

    Attributes:
        load: What was asked for.
        run: What the far end saw.
        cpu_s: CPU time that the process in the middle took; 0 if there is none.
    """

    load: Load
    run: Run
    cpu_s: float

    @property
    def megabytes(self) -> float:
        """Data transferred, in units of 1,000,000 bytes."""
        return self.run.transfers * self.load.size / 1e6

    @property
    def mb_per_s(self) -> float:
        """Throughput."""
        return self.megabytes / self.run.seconds

    @property
    def cpu_us_per_mb(self) -> float:
        """CPU time of the process in the middle."""
        return self.cpu_s * 1e6 / self.megabytes

    @property
    def cpu_us_per_transfer(self) -> float:
        """CPU time of the process in the middle."""
        return self.cpu_s * 1e6 / self.run.transfers

    @property
    def round_trip_us(self) -> float:
        """See :class:`Run`."""
        return self.run.round_trip_s * 1e6

    @property
    def far_end_busy(self) -> float:
        """Share of the time in which the far end had a CPU, 0 to 1."""
        return self.run.cpu_s / self.run.seconds


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that client and peer are compared by.

    Attributes:
        name: For people.
        unit: Of the number.
        load: Where it is taken.
        value: Takes it.
        required: The least ratio, or the most if less is better; None if there is none.
        aim: The ratio that we would like to see.
        more_is_better: Whether it is.
    """

    name: str
    unit: str
    load: Load
    value: Callable[[Sample], float]
    required: float | None = None
    aim: float | None = None
    more_is_better: bool = False

    def values(self, samples: Sequence[Sample]) -> Sequence[float]:
        """Take the number from each run of its load; others are left out."""
        return [self.value(sample) for sample in samples if sample.load is self.load]

    def compare(self, client: Sequence[Sample], peer: Sequence[Sample]) -> Comparison:
        """Compare the runs of client and peer, round by round.

        Args:
            client: Two rounds at least.
            peer: As many.
        """
        ours, theirs = self.values(client), self.values(peer)
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        return Comparison(
            self, statistics.median(ours), statistics.median(theirs), ratio, low, high
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out.

    Attributes:
        measure: What was compared.
        client: Median.
        peer: Median.
        ratio: Median of the ratios of each round, client to peer.
        low: Lower quartile of those ratios.
        high: Upper quartile.
    """

    measure: Measure
    client: float
    peer: float
    ratio: float
    low: float
    high: float

    @property
    def met(self) -> bool:
        """Whether the ratio is as it must be."""
        required = self.measure.required
        if required is None:
            return True
        return self.ratio >= required if self.measure.more_is_better else self.ratio <= required


def _throughput(name: str, load: Load) -> Measure:
    return Measure(
        name, "MB/s", load, lambda sample: sample.mb_per_s, 0.6, 0.8, more_is_better=True
    )


def _cpu(name: str, load: Load) -> Measure:
    return Measure(name, "us/MB", load, lambda sample: sample.cpu_us_per_mb)


MEASURES: Final = (
    _throughput("throughput from the device", FROM_DEVICE),
    _throughput("throughput to the device", TO_DEVICE),
    Measure("round trip", "us", ROUND_TRIP, lambda sample: sample.round_trip_us, 1.5, 1.2),
    _cpu("CPU, from the device", FROM_DEVICE),
    _cpu("CPU, to the device", TO_DEVICE),
    Measure("CPU, a round trip", "us", ROUND_TRIP, lambda sample: sample.cpu_us_per_transfer),
)
