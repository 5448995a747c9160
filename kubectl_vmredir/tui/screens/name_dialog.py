"""Asks for a name, which is typed: there are users who may not list what there is."""

from __future__ import annotations

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

_TAKE: Final = "take"


class NameDialog(Dialog[str]):
    """A line to type in; the answer is what was typed.

    Args:
        title: Stands in the frame; may hold untrusted text.
        clock: Returns seconds.
        button: What the button says.
        wrong: Says what is wrong with a name; nothing if it is right.
        known: Names to complete. If there are any, what is there to begin with is a proposal, which
            the first key that is typed replaces.
        value: What is there to begin with.
        placeholder: What is wanted.
        note: What there is to know; may hold untrusted text.
    """

    def __init__(
        self,
        title: str,
        clock: Callable[[], float],
        *,
        button: str,
        wrong: Callable[[str], str],
        known: Sequence[str] = (),
        value: str = "",
        placeholder: str = "",
        note: str = "",
    ) -> None:
        super().__init__(title, clock)
        self._button = button
        self._wrong = wrong
        self._note = note
        self._input = Input(
            value,
            placeholder=placeholder,
            suggester=SuggestFromList(known) if known else None,
            select_on_focus=bool(known),
            compact=True,
        )
        self._input.cursor_blink = False
        self._text = LiveText(classes="dialog--text")

    def body(self) -> Iterable[Widget]:
        """See :meth:`Dialog.body`."""
        return (self._input, self._text)

    def choices(self) -> Iterable[Choice]:
        """See :meth:`Dialog.choices`."""
        return (Choice(CANCEL, "Cancel"), Choice(_TAKE, self._button))

    def chosen(self, choice: str) -> None:
        """See :meth:`Dialog.chosen`."""
        name = self._input.value.strip()
        if wrong := self._wrong(name):
            self._say(f"✖ {wrong}", Tone.BAD)
            self._input.focus()
        else:
            self.dismiss(name)

    def on_mount(self) -> None:
        """Begin to type."""
        self._say(self._note, Tone.QUIET)
        self._input.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter is the button."""
        event.stop()
        self.chosen(_TAKE)

    def _say(self, text: str, tone: Tone) -> None:
        self._text.show(Content.styled(f"\n{printable(text)}", tone.style))
