"""Names, and beside each what belongs to it, however many lines that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from textual.content import Content
from textual.widget import Widget

from kubectl_vmredir.tui.looks import Tone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.geometry import Size

Pair = tuple[str, Content | str]
"""A name, and what belongs to it; without a name it is a line of its own."""

_GAP: Final = 2
_NARROWEST: Final = 10


class Pairs(Widget):
    """Shows pairs below each other; what is too long goes on below where it began."""

    DEFAULT_CSS = """
    Pairs { height: auto; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._pairs: Sequence[Pair] = ()

    def show_pairs(self, pairs: Sequence[Pair]) -> None:
        """Show these pairs."""
        if not _are_same(pairs, self._pairs):
            self._pairs = pairs
            self.refresh(layout=True)

    def render(self) -> Content:
        """Draw the pairs."""
        return Content("\n").join(self._lines(self.content_size.width))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return how many lines they take."""
        del container, viewport
        return len(self._lines(width))

    def _lines(self, width: int) -> list[Content]:
        indent = max((len(name) for name, _ in self._pairs), default=0) + _GAP
        lines: list[Content] = []
        for name, value in self._pairs:
            left = indent if name else 0
            for number, text in enumerate(_content(value).wrap(max(width - left, _NARROWEST))):
                label = f"{name if number == 0 else '':<{left}}"
                lines.append(Content.assemble((label, Tone.QUIET.style), text))
        return lines


def _are_same(pairs: Sequence[Pair], others: Sequence[Pair]) -> bool:
    return len(pairs) == len(others) and all(
        name == other and _content(value).is_same(_content(said))
        for (name, value), (other, said) in zip(pairs, others, strict=True)
    )


def _content(value: Content | str) -> Content:
    return value if isinstance(value, Content) else Content(value)
