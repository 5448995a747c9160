"""Which namespace to show; typed, for there are users who may not list them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from textual.content import Content
from textual.suggester import SuggestFromList
from textual.widgets import Input

from kubectl_vmredir.tui.drawing import printable
from kubectl_vmredir.tui.looks import Tone
from kubectl_vmredir.tui.screens.dialog import CANCEL, Choice, Dialog
from kubectl_vmredir.tui.widgets.live_text import LiveText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from textual.widget import Widget

_SHOW: Final = "show"
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class NamespaceDialog(Dialog[str]):
    """Asks for a namespace.

    Args:
        known: Namespaces that were seen.
        clock: Returns seconds.
    """

    def __init__(self, known: Sequence[str], clock: Callable[[], float]) -> None:
        super().__init__("Namespace", clock)
        self._known = [name for name in known if _LABEL.fullmatch(name)]
        self._input = Input(
            placeholder="name of a namespace",
            suggester=SuggestFromList(self._known) if self._known else None,
            compact=True,
        )
        self._input.cursor_blink = False
        self._text = LiveText(classes="dialog--text")

    def body(self) -> Iterable[Widget]:
        """See :meth:`Dialog.body`."""
        return (self._input, self._text)

    def choices(self) -> Iterable[Choice]:
        """See :meth:`Dialog.choices`."""
        return (Choice(CANCEL, "Cancel"), Choice(_SHOW, "Show"))

    def chosen(self, choice: str) -> None:
        """See :meth:`Dialog.chosen`."""
        name = self._input.value.strip()
        if _LABEL.fullmatch(name):
            self.dismiss(name)
            return
        self._say(f"✖ {name!r} is no name of a namespace", Tone.BAD)
        self._input.focus()

    def on_mount(self) -> None:
        """Begin to type."""
        seen = ", ".join(self._known)
        self._say(f"seen: {seen}" if seen else "a shows all namespaces", Tone.QUIET)
        self._input.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter is the button."""
        event.stop()
        self.chosen(_SHOW)

    def _say(self, text: str, tone: Tone) -> None:
        self._text.show(Content.styled(f"\n{printable(text)}", tone.style))
