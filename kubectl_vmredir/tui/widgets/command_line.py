"""The line in which a command is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input

if TYPE_CHECKING:
    from collections.abc import Callable


class _Completer(Suggester):
    """Asks for the completion anew each time: what is known changes."""

    def __init__(self, complete: Callable[[str], str | None]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete

    async def get_suggestion(self, value: str) -> str | None:
        """Return the text as it may go on."""
        return self._complete(value)


class CommandLine(Input):
    """Takes a command; tab completes it, escape drops it.

    Args:
        complete: Returns a text as it may go on; None if nobody knows.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "drop", "Drop", show=False, tooltip="Close the command line."),
        Binding("tab", "cursor_right_end", "Complete", show=False, tooltip="Take what is offered."),
    ]

    DEFAULT_CSS = """
    CommandLine {
        display: none;
        height: 1;
        padding: 0 1;
        background: $row-resting;
        &.-open { display: block; }
    }
    """

    class Entered(Message):
        """A command was typed.

        Attributes:
            command_line: The line.
            text: What was typed; empty if nothing is to be done.
        """

        def __init__(self, command_line: CommandLine, text: str) -> None:
            super().__init__()
            self.command_line = command_line
            self.text = text

        @property
        def control(self) -> CommandLine:
            """The line, for ``@on`` selectors."""
            return self.command_line

    def __init__(self, complete: Callable[[str], str | None]) -> None:
        super().__init__(
            id="command",
            placeholder="a command; tab: complete, esc: close",
            suggester=_Completer(complete),
            select_on_focus=False,
            compact=True,
        )
        self.cursor_blink = False

    def open(self) -> None:
        """Begin to type."""
        self.value = ""
        self.add_class("-open")
        self.screen.set_focus(self)  # at once: the next key is for this line

    def action_cursor_right_end(self) -> None:
        """Take what is offered, if anything is."""
        self.action_cursor_right()

    def action_drop(self) -> None:
        """Close it, and do nothing."""
        self._enter("")

    async def action_submit(self) -> None:
        """Close it, and do what was typed."""
        self._enter(self.value.strip())

    def _enter(self, text: str) -> None:
        self.remove_class("-open")
        self.post_message(self.Entered(self, text))
