"""Keys in words: for the line at the bottom, and for the help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from textual.binding import Binding
from textual.content import Content

from kubectl_vmredir.tui import looks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from textual.binding import BindingType

    from kubectl_vmredir.tui.widgets.pairs import Pair

_NAMES: Final = {
    "question_mark": "?",
    "slash": "/",
    "colon": ":",
    "enter": "enter",
    "escape": "esc",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "space": "space",
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
}


@dataclass(frozen=True, slots=True)
class Chapter:
    """Keys that belong together.

    Attributes:
        title: What they belong to.
        bindings: Taken from where they are bound.
    """

    title: str
    bindings: Sequence[BindingType]


def key_names(binding: Binding) -> Sequence[str]:
    """Return the keys of a binding as they are written on a keyboard."""
    return [_NAMES.get(key, key) for key in binding.key.split(",")]


def full(bindings: Iterable[BindingType]) -> Sequence[Binding]:
    """Return bindings that may have been given as tuples."""
    return [found if isinstance(found, Binding) else Binding(*found) for found in bindings]


def help_pairs(chapters: Iterable[Chapter]) -> list[Pair]:
    """Return the help: each key with what it does, and what the glyphs mean."""
    pairs: list[Pair] = []
    for chapter in chapters:
        pairs.append(("", Content.styled(chapter.title, "bold")))
        pairs += [
            (f"  {' '.join(key_names(binding))}", binding.tooltip)
            for binding in full(chapter.bindings)
        ]
        pairs.append(("", ""))
    pairs.append(("", Content.styled("States of a redirection", "bold")))
    pairs += [("  ", looks.of_state(state).content) for state in looks.REDIRECTION]
    return pairs
