"""A box to tick; whether it is ticked can be seen without colours."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Checkbox


class Consent(Checkbox):
    """Says what is consented to."""

    BUTTON_LEFT = "["
    BUTTON_RIGHT = "]"

    def __init__(self, text: str, *, id: str) -> None:  # noqa: A002 - Textual's own name
        super().__init__(Content(text), id=id, compact=True)
        self.display = False
        self.BUTTON_INNER = " "

    def watch_value(self) -> None:
        """Tick the box, or clear it."""
        self.BUTTON_INNER = "X" if self.value else " "
        super().watch_value()
