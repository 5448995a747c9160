"""A redirection in words and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from kubectl_vmredir.tui import looks
from kubectl_vmredir.tui.drawing import byte_count, plain, printable, sparkline, time_of_day
from kubectl_vmredir.tui.rates import Rates
from kubectl_vmredir.tui.selection import redirected_name

if TYPE_CHECKING:
    from kubectl_vmredir.service.interface import RedirectionStatus, StoryEvent
    from kubectl_vmredir.tui.world import World

_WIDEST_SPARKS = 30
_QUIET = looks.Tone.QUIET.style


def facts(
    world: World, status: RedirectionStatus, now: float, width: int, *, whole: bool
) -> Content:
    """Return what is so now, in lines of at most that many cells.

    Args:
        world: What is known.
        status: The redirection.
        now: Seconds since the epoch.
        width: Cells of a line.
        whole: Whether what is longer goes on in the next line, instead of being cut.
    """
    lines = [
        _heading(world, status),
        _way(status),
        _numbers(status, room=None if whole else width),
        _traffic(status, world.rates.get(status.id) or Rates(), now, width),
    ]
    if status.reason:
        lines.insert(1, Content.assemble(("because ", _QUIET), printable(status.reason)))
    if status.trouble is not None:
        lines.insert(1, _trouble(status))
    if status.trial_ends is not None:
        lines.insert(1, _trial(status.trial_ends))
    if whole:
        return Content("\n").join(part for text in lines for part in text.wrap(width))
    return Content("\n").join(text.truncate(width, ellipsis=True) for text in lines)


def event_line(event: StoryEvent) -> tuple[Content, Content, Content]:
    """Return time, state and what happened, for the columns of a list."""
    return (
        Content.styled(time_of_day(event.time), _QUIET),
        looks.of_state(event.state).content,
        plain(event_text(event)),
    )


def event_text(event: StoryEvent) -> str:
    """Return what happened; may hold untrusted text."""
    if (handover := event.handover) is None:
        return event.cause
    # The cause says no more: it went with the VM, from node to node.
    return (
        f"{handover.kind} handover {handover.source_node} → {handover.target_node}, "
        f"link gap {handover.link_gap_ms:.0f} ms"
    )


def _heading(world: World, status: RedirectionStatus) -> Content:
    return Content.assemble(
        looks.of_state(status.state).content,
        "  ",
        (printable(redirected_name(world, status)), "bold"),
        (f" {printable(status.device)}", _QUIET),
        "  →  ",
        (printable(f"{status.vmi}"), "bold"),
        (" slot ", _QUIET),
        (printable(status.slot), "bold"),
    )


def _trouble(status: RedirectionStatus) -> Content:
    assert status.trouble is not None, "there is trouble"
    hint = status.trouble.hint.splitlines()
    text = ": ".join((status.trouble.message, *hint[:1]))
    return Content.styled(f"✖ {printable(text)}", looks.Tone.BAD.style)


def _trial(ends: float) -> Content:
    text = f"▲ it comes back at {time_of_day(ends)} unless you keep it in the VM: K"
    return Content.styled(text, f"bold {looks.Tone.BUSY.style}")


def _way(status: RedirectionStatus) -> Content:
    numbers = status.numbers
    parts = [("route", str(status.route))]
    if status.node:
        parts.append(("on", status.node))
    if numbers.round_trip_ms is not None:
        hop = f" to {numbers.round_trip_to}" if numbers.round_trip_to else ""
        parts.append(("round trip", f"{numbers.round_trip_ms:.1f} ms{hop}"))
    parts.append(("resets by the VM", str(numbers.resets_forwarded)))
    return _pairs(parts)


def _numbers(status: RedirectionStatus, room: int | None) -> Content:
    """Return the numbers, and why the next handover is no better if there is room for it."""
    numbers = status.numbers
    outage = "none" if numbers.last_outage_ms is None else f"{numbers.last_outage_ms:.0f} ms"
    pairs = [
        ("migrations survived", str(numbers.migrations_survived)),
        ("last outage", outage),
        ("next handover", str(status.handover)),
    ]
    short = _pairs(pairs)
    if not status.handover_doubt:
        return short
    doubt = Content(f" ({printable(status.handover_doubt)})")
    fits = room is None or short.cell_length + doubt.cell_length <= room
    return Content.assemble(short, doubt) if fits else short


def _traffic(status: RedirectionStatus, rates: Rates, now: float, width: int) -> Content:
    bars = max(min((width - 58) // 2, _WIDEST_SPARKS), 0)
    up, down = rates.up(now), rates.down(now)
    return Content.assemble(
        ("↑ to VM ", _QUIET),
        (f"{sparkline(up, bars)} " if bars else "", looks.Tone.GOOD.style),
        f"{byte_count(up[-2] if len(up) > 1 else 0) + '/s':<10}",
        (f"{byte_count(status.numbers.bytes_up):<9}", _QUIET),
        ("↓ from VM ", _QUIET),
        (f"{sparkline(down, bars)} " if bars else "", looks.Tone.MOVING.style),
        f"{byte_count(down[-2] if len(down) > 1 else 0) + '/s':<10}",
        (byte_count(status.numbers.bytes_down), _QUIET),
    )


def _pairs(pairs: list[tuple[str, str]]) -> Content:
    return Content.assemble(
        *(
            part
            for index, (name, value) in enumerate(pairs)
            for part in (("  ·  " if index else "", _QUIET), (f"{name} ", _QUIET), printable(value))
        )
    )
