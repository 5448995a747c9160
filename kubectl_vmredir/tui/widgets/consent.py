"""A box to tick; whether it is ticked can be seen without colours."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Checkbox


class Consent(Checkbox):
    """Says what is consented to.

    Args:
        text: What is consented to.
        id: Id of the widget.
    """

    # Textual's own box differs in its colour only; ours is part of the label.
    BUTTON_LEFT = BUTTON_INNER = BUTTON_RIGHT = ""

    def __init__(self, text: str, *, id: str) -> None:  # noqa: A002 - Textual's own name
        self._text = text
        super().__init__(Content(f"[ ] {text}"), id=id, compact=True)
        self.display = False

    def watch_value(self) -> None:
        """Tick the box, or clear it."""
        self.label = Content(f"[{'X' if self.value else ' '}] {self._text}")
        super().watch_value()
