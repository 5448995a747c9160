"""The line in which a list is filtered, and what its words mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

if TYPE_CHECKING:
    from collections.abc import Callable


def matcher(text: str) -> Callable[[str], bool]:
    """Return whether a text has all words of a filter, and none of those behind a ``!``."""
    words = text.lower().split()
    wanted = [word for word in words if not word.startswith("!")]
    unwanted = [word[1:] for word in words if word.startswith("!") and len(word) > 1]

    def matches(candidate: str) -> bool:
        candidate = candidate.lower()
        for word in wanted:  # most texts end here, and there are many of them
            if word not in candidate:
                return False
        return not any(word in candidate for word in unwanted)

    return matches


class FilterLine(Input):
    """Filters while one types; enter keeps the filter, escape drops it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "drop", "Drop filter", show=False, tooltip="Show all again."),
        Binding("down", "keep", "To the list", show=False, tooltip="Keep it; go to the list."),
    ]

    DEFAULT_CSS = """
    FilterLine {
        display: none;
        height: 1;
        padding: 0 1;
        background: $row-resting;
        &.-open { display: block; }
    }
    """

    class Kept(Message):
        """The user is done with typing, and goes to the list.

        Attributes:
            filter_line: The line.
        """

        def __init__(self, filter_line: FilterLine) -> None:
            super().__init__()
            self.filter_line = filter_line

        @property
        def control(self) -> FilterLine:
            """The line, for ``@on`` selectors."""
            return self.filter_line

    def __init__(self) -> None:
        super().__init__(
            placeholder="words to look for; !word leaves out", select_on_focus=False, compact=True
        )
        self.cursor_blink = False

    def open(self) -> None:
        """Begin to type."""
        self.add_class("-open")
        self.screen.set_focus(self)  # at once: the next key is for this line

    def set_filter(self, words: str) -> None:
        """Filter by these words, without typing."""
        self.value = words
        self.set_class(bool(words), "-open")

    def clear_filter(self) -> bool:
        """Drop the filter; return whether there was one."""
        open_before = self.has_class("-open")
        self.value = ""
        self.remove_class("-open")
        return open_before

    def action_drop(self) -> None:
        """Drop the filter."""
        self.clear_filter()
        self.post_message(self.Kept(self))

    def action_keep(self) -> None:
        """Keep the filter."""
        if not self.value:
            self.remove_class("-open")
        self.post_message(self.Kept(self))

    async def action_submit(self) -> None:
        """Keep the filter, as enter does it."""
        self.action_keep()
