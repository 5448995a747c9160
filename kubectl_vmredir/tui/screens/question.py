"""A question with a few answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from kubectl_vmredir.tui.screens.dialog import CANCEL, Choice, Dialog, command_line
from kubectl_vmredir.tui.widgets.live_text import LiveText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual.content import Content
    from textual.widget import Widget


class Question(Dialog[str]):
    """Asks before something is done; the answer is the id of the choice.

    Args:
        title: Stands in the frame; may hold untrusted text.
        text: What there is to know.
        choices: The answers, besides Cancel; the first is the usual one.
        clock: Returns seconds.
        command: Command line that does the same; empty if there is none.
        danger: Whether the usual answer does harm.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy", "Copy", tooltip="Copy the command line that does the same."),
    ]

    def __init__(
        self,
        title: str,
        text: Content,
        choices: tuple[Choice, ...],
        clock: Callable[[], float],
        *,
        command: str = "",
        danger: bool = False,
    ) -> None:
        super().__init__(title, clock)
        self._text = text
        self._choices = choices
        self._command = command
        self._danger = danger

    def body(self) -> Iterable[Widget]:
        """See :meth:`Dialog.body`."""
        text = LiveText(classes="dialog--text")
        text.show(self._text)
        yield text
        if self._command:
            command = LiveText(classes="dialog--command")
            command.show(command_line(self._command))
            yield command

    def choices(self) -> Iterable[Choice]:
        """See :meth:`Dialog.choices`."""
        yield Choice(CANCEL, "Cancel")
        yield from self._choices

    def chosen(self, choice: str) -> None:
        """See :meth:`Dialog.chosen`."""
        self.dismiss(choice)

    def on_mount(self) -> None:
        """Wait for an answer."""
        self.ask(danger=self._danger, usual=self._choices[0].id)

    def action_copy(self) -> None:
        """Copy the command line."""
        if self._command:
            self.app.copy_to_clipboard(self._command)
            self.notify(self._command, title="Copied", markup=False)
