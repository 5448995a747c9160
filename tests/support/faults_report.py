"""What happened in a fault run, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.support.faults import Fault, Kind
from tests.support.faults_process import Census
from tests.support.faults_run import Run

_SAMPLES = 12


@dataclass(frozen=True)
class Outcome:
    """All that is told of a run.

    Attributes:
        faults: What was asked for.
        effects: How often each kind was seen to do harm.
        back_after_s: How long after the last fault all were connected.
        before: What there was of the agent with nothing bound, before the faults.
        after: The same, afterwards.
        last_words: What the guests' QEMUs wrote to stderr.
    """

    faults: Sequence[Fault]
    effects: Mapping[Kind, int]
    back_after_s: float
    before: Census
    after: Census
    last_words: Mapping[str, int]


def report(run: Run, outcome: Outcome) -> str:
    """Return the report."""
    return "\n".join(_lines(run, outcome))


def _lines(run: Run, outcome: Outcome) -> Iterator[str]:
    before, after = outcome.before, outcome.after
    asked = Counter(fault.kind for fault in outcome.faults)
    yield f"{len(outcome.faults)} faults; all connected {outcome.back_after_s:.1f} s after the last"
    yield f"  {'fault':24}{'asked for':>10}{'seen to do harm':>17}"
    for kind in Kind:
        yield f"  {kind:24}{asked[kind]:10}{outcome.effects.get(kind, 0):17}"
    for account, spectator in run.spectators.items():
        states = ", ".join(f"{state} {count}" for state, count in spectator.states.most_common())
        yield f"{account}: {states}; {spectator.handovers} handovers"
    memory = ", ".join(f"{kib / 1024:.0f}" for kib in _some(run.memory_kib))
    yield f"agent: memory in MiB {memory}; with nothing bound {_mib(before)}, then {_mib(after)}"
    yield f"  objects {before.objects.total()}, then {after.objects.total()}"
    yield f"  in use by C code {before.malloc_bytes >> 10} KiB, then {after.malloc_bytes >> 10} KiB"
    for words, count in outcome.last_words.items():
        yield f"{count} times: {words}"


def _some(values: Sequence[int]) -> Iterable[int]:
    return values[:: max(1, len(values) // _SAMPLES)]


def _mib(census: Census) -> str:
    return f"{census.resident_kib / 1024:.0f}"
