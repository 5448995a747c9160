"""How a state looks: a glyph, a word and a tone, so that none of them is needed to tell it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from textual.content import Content

from kubectl_vmredir.model import Danger, Outcome, RedirectionState
from kubectl_vmredir.tui.drawing import printable
from kubectl_vmredir.tui.world import under_way

if TYPE_CHECKING:
    from textual.theme import Theme

    from kubectl_vmredir.model import DeviceUse, VmiView
    from kubectl_vmredir.tui.world import World


class Tone(enum.StrEnum):
    """What a colour means; its value is the name of a variable of the theme."""

    GOOD = "tone-good"
    BUSY = "tone-busy"
    MOVING = "tone-moving"
    BAD = "tone-bad"
    QUIET = "tone-quiet"

    @property
    def style(self) -> str:
        """The style that draws it."""
        return f"${self}"


_DARK: Final = {
    Tone.GOOD: "#8AD4A1",
    Tone.BUSY: "#FFC473",
    Tone.MOVING: "#7CC4F5",
    Tone.BAD: "#F598A6",
    Tone.QUIET: "#A8A8A8",
}
_LIGHT: Final = {
    Tone.GOOD: "#14532D",
    Tone.BUSY: "#6B3F00",
    Tone.MOVING: "#003E70",
    Tone.BAD: "#861B33",
    Tone.QUIET: "#454545",
}
_ANSI_DARK: Final = {
    Tone.GOOD: "ansi_bright_green",
    Tone.BUSY: "ansi_bright_yellow",
    Tone.MOVING: "ansi_bright_cyan",
    Tone.BAD: "ansi_bright_red",
    Tone.QUIET: "ansi_default",
}
_ANSI_LIGHT: Final = {
    Tone.GOOD: "ansi_green",
    Tone.BUSY: "ansi_magenta",
    Tone.MOVING: "ansi_blue",
    Tone.BAD: "ansi_red",
    Tone.QUIET: "ansi_default",
}


def theme_variables(theme: Theme) -> dict[str, str]:
    """Return the colours of ours in a theme; each tone reads well on each background."""
    if theme.name.startswith("ansi"):
        tones = _ANSI_DARK if theme.dark else _ANSI_LIGHT
        rows = {"row-cursor": "ansi_default", "row-resting": "ansi_default"}
    elif theme.dark:
        tones, rows = _DARK, {"row-cursor": "#123A5C", "row-resting": "#2B3036"}
    else:
        tones, rows = _LIGHT, {"row-cursor": "#B5D3EE", "row-resting": "#C6CACE"}
    return {**{str(tone): colour for tone, colour in tones.items()}, **rows}


@dataclass(frozen=True, slots=True)
class Look:
    """A state as it is drawn.

    Attributes:
        glyph: One cell.
        word: The state; may hold untrusted text.
        tone: Its colour.
    """

    glyph: str
    word: str
    tone: Tone

    @property
    def content(self) -> Content:
        """Glyph and word, in their tone."""
        return Content.styled(f"{self.glyph} {printable(self.word)}", self.tone.style)


REDIRECTION: Final = {
    RedirectionState.WAITING_DEVICE: ("◌", Tone.BUSY),
    RedirectionState.CLAIMING: ("◐", Tone.BUSY),
    RedirectionState.DIALING: ("◐", Tone.BUSY),
    RedirectionState.CONNECTED: ("●", Tone.GOOD),
    RedirectionState.STALLED: ("◍", Tone.BUSY),
    RedirectionState.MIGRATING: ("⇄", Tone.MOVING),
    RedirectionState.HANDING_OVER: ("⇄", Tone.MOVING),
    RedirectionState.HOLDING: ("◐", Tone.BUSY),
    RedirectionState.PAUSED: ("‖", Tone.QUIET),
    RedirectionState.BLOCKED: ("✖", Tone.BAD),
    RedirectionState.STOPPED: ("○", Tone.QUIET),
}
"""Glyph and tone of each state of a redirection."""

FREE: Final = Look("○", "free", Tone.QUIET)

_DANGERS: Final = {
    Danger.NEVER: Look("✖", "refused", Tone.BAD),
    Danger.FORCE: Look("✖", "needs force", Tone.BAD),
    Danger.ALLOW: Look("▲", "needs consent", Tone.BUSY),
    Danger.NOTE: Look("●", "note", Tone.MOVING),
}

_NEEDED: Final = {
    Danger.NEVER: Look("⊘", "needed here", Tone.QUIET),
    Danger.FORCE: Look("▲", "in use here", Tone.BUSY),
    Danger.ALLOW: Look("▲", "needs consent", Tone.BUSY),
}

_OUTCOMES: Final = {
    Outcome.OK: Look("●", "ok", Tone.GOOD),
    Outcome.WARNING: Look("▲", "warning", Tone.BUSY),
    Outcome.FAILED: Look("✖", "failed", Tone.BAD),
}


def of_state(state: RedirectionState) -> Look:
    """Return the look of a redirection's state."""
    glyph, tone = REDIRECTION[state]
    return Look(glyph, str(state), tone)


def of_danger(danger: Danger) -> Look:
    """Return the look of a finding."""
    return _DANGERS[danger]


def of_outcome(outcome: Outcome) -> Look:
    """Return the look of what a check of this machine found."""
    return _OUTCOMES[outcome]


def of_unused(use: DeviceUse | None) -> Look:
    """Return the look of a device that is in no VM."""
    if use is None:
        return FREE
    dangers = {finding.danger for finding in use.findings}
    for danger in (Danger.NEVER, Danger.FORCE, Danger.ALLOW):
        if danger in dangers:
            return _NEEDED[danger]
    return FREE if use.openable else Look("✖", "no access", Tone.BAD)


def of_agent(world: World) -> Look:
    """Return the look of who has the redirections."""
    if world.agent_gone:
        return Look("✖", "agent gone", Tone.BAD)
    if world.session is None:
        return Look("◌", "agent", Tone.BUSY)
    if not world.session.lasting:
        return Look("○", "this window", Tone.QUIET)
    return Look("●", "agent", Tone.GOOD)


def of_vmi(vmi: VmiView) -> Look:
    """Return the look of a VM."""
    if under_way(vmi):
        return Look("⇄", "migrating", Tone.MOVING)
    if vmi.deleting:
        return Look("◌", "ending", Tone.BUSY)
    match vmi.phase:
        case "Running":
            return Look("●", "running", Tone.GOOD)
        case "Failed":
            return Look("✖", "failed", Tone.BAD)
        case "Succeeded":
            return Look("○", "stopped", Tone.QUIET)
        case "":
            return Look("◌", "new", Tone.BUSY)
        case other:
            return Look("◌", other.lower(), Tone.BUSY)


def of_cluster(world: World, since: str) -> Look:
    """Return the look of the connection to the cluster.

    Args:
        world: What is known.
        since: Time of day since when there is trouble; empty if there is none.
    """
    if world.unopened is not None:
        if world.vmis is not None:
            return Look("✖", f"no news since {since}", Tone.BAD)
        return Look("✖", "no cluster", Tone.BAD)
    if world.vmis_bad is not None and world.vmis is None:
        kind = world.vmis_bad.trouble.kind
        words = {"Forbidden": "no permission", "LoginRequired": "login needed"}
        return Look("✖", words.get(kind, "no answer"), Tone.BAD)
    if world.vmis_bad is not None:
        return Look("✖", f"no news since {since}", Tone.BAD)
    if world.vmis is None:
        return Look("◌", "connecting", Tone.BUSY)
    return Look("●", "live", Tone.GOOD)
