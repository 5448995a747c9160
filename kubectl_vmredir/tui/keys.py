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

_NAMES: Final = {
    "question_mark": "?",
    "slash": "/",
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
_KEYS_WIDTH: Final = 14
_LABEL_WIDTH: Final = 16


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


def help_text(chapters: Iterable[Chapter]) -> Content:
    """Return the help: each key with what it does, and what the glyphs mean."""
    lines: list[Content] = []
    for chapter in chapters:
        lines.append(Content.styled(chapter.title, "bold"))
        lines += [_help_line(binding) for binding in full(chapter.bindings)]
        lines.append(Content())
    lines.append(Content.styled("States of a redirection", "bold"))
    shown = [looks.of_state(state).content for state in looks.REDIRECTION]
    for row in range(0, len(shown), 4):
        cells = [cell.truncate(19, pad=True) for cell in shown[row : row + 4]]
        lines.append(Content.assemble("  ", *cells))
    return Content("\n").join(lines)


def _help_line(binding: Binding) -> Content:
    names = " ".join(key_names(binding))
    return Content.assemble(
        (f"  {names:<{_KEYS_WIDTH}}", f"bold {looks.Tone.MOVING.style}"),
        f"{binding.description:<{_LABEL_WIDTH}}",
        (binding.tooltip, looks.Tone.QUIET.style),
    )
