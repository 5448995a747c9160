"""How eight redirections came through each outage: for people as a table, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubectl_vmredir.model import RedirectionId, RedirectionState
from tests.support.plane.watching import UP, Sight

_HELPLESS = frozenset({RedirectionState.BLOCKED, RedirectionState.PAUSED, RedirectionState.STOPPED})


@dataclass(frozen=True, slots=True)
class Passage:
    """What one redirection went through in one outage; times are from its end on.

    Attributes:
        redirection: Its id.
        vmi: Its VM.
        slot: Its slot.
        hit: Whether it was not up all the time.
        relinked: Whether its link was dialed anew.
        up_after_s: When it was up for good; None if it was not.
        used_after_s: When the guest asked the device for something over the new link.
        link_gap_ms: Of the handover, after a migration.
        sights: How it looked in the meantime.
    """

    redirection: RedirectionId
    vmi: str
    slot: str
    hit: bool
    relinked: bool
    up_after_s: float | None
    used_after_s: float | None
    link_gap_ms: float | None
    sights: tuple[Sight, ...]

    @property
    def back_by_itself(self) -> bool:
        """Whether it came back, and never waited for a person."""
        helpless = any(sight.state in _HELPLESS for sight in self.sights)
        return self.up_after_s is not None and not helpless


@dataclass(frozen=True, slots=True)
class Row:
    """One outage, or one round of migrations.

    Attributes:
        what: What was done.
        lasted_s: Until the server served again, or all VMs had moved.
        passages: Of all redirections.
    """

    what: str
    lasted_s: float
    passages: tuple[Passage, ...]

    @property
    def all_back(self) -> bool:
        """Whether all came back by themselves."""
        return all(passage.back_by_itself for passage in self.passages)

    @property
    def hit(self) -> Sequence[Passage]:
        """Those that it did something to."""
        return [passage for passage in self.passages if passage.hit]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that happened.

    Attributes:
        rows: In their order.
        read_right: Whether the guests read the content of their sticks afterwards.
        errors: Lines of the agent's log that tell of a bug.
        ok: Whether it is as it must be.
    """

    rows: tuple[Row, ...]
    read_right: bool
    errors: tuple[str, ...]
    ok: bool

    @classmethod
    def of(cls, rows: Iterable[Row], *, read_right: bool, log: str) -> Report:
        """Judge what happened."""
        rows = tuple(rows)
        errors = tuple(line for line in log.splitlines() if " E " in line)
        ok = all(row.all_back for row in rows) and read_right and not errors
        return cls(rows, read_right, errors, ok)

    def to_text(self) -> str:
        """Return a table in Markdown, and what is wrong."""
        head = (
            "what",
            "until it serves",
            "hit",
            "what they showed",
            "connected after",
            "in use after",
            "link gap",
        )
        lines = [
            _line(head),
            _line(["---"] * len(head)),
            *(_line(_cells(row)) for row in self.rows),
        ]
        if not self.read_right:
            lines += ["", "A guest did not read what is on its stick."]
        lines += [f"Error of the agent: {line}" for line in self.errors]
        return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> Sequence[str]:
    return (
        row.what,
        f"{row.lasted_s:.1f} s",
        f"{len(row.hit)} of {len(row.passages)}",
        _shown(row.hit),
        _span([passage.up_after_s for passage in row.hit]),
        _span([passage.used_after_s for passage in row.hit if passage.relinked]),
        _span([gap / 1000 for passage in row.hit if (gap := passage.link_gap_ms) is not None]),
    )


def _shown(passages: Sequence[Passage]) -> str:
    """Return what redirections showed while they were not up: each once, in order."""
    states: dict[str, None] = {}
    whys: dict[str, None] = {}
    for passage in passages:
        for sight in passage.sights:
            if sight.state not in UP:
                states[f"`{sight.state}`"] = None
                whys[sight.why.replace(f"VM {passage.vmi}", "the VM").replace("|", "/")] = None
    return ": ".join(filter(None, (", ".join(states), "; ".join(filter(None, whys))))) or "nothing"


def _span(seconds: Sequence[float | None]) -> str:
    """Return the least and the greatest."""
    if not seconds:
        return "—"
    known = [second for second in seconds if second is not None]
    if len(known) < len(seconds):
        return f"{len(seconds) - len(known)} NEVER"
    return f"{min(known):.1f} to {max(known):.1f} s"
