"""What all dialogs have in common: a frame, buttons, and deafness where a key could do harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button

from kubectl_vmredir.tui.drawing import printable
from kubectl_vmredir.tui.looks import Tone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual.app import ComposeResult
    from textual.widget import Widget

    from kubectl_vmredir.tui.world import World

DEAF_S: Final = 0.3
"""A dialog about something dangerous hears no key for so long: it may be meant for another."""

CANCEL: Final = "cancel"

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Choice:
    """A button.

    Attributes:
        id: Names it.
        label: What it says.
        danger: Whether it does harm.
    """

    id: str
    label: str
    danger: bool = False


class Dialog(ModalScreen[Answer | None]):
    """A frame over the screen that gives an answer, or None if it is cancelled.

    Args:
        title: Stands in the frame; may hold untrusted text.
        clock: Returns seconds.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "cancel", "Cancel", tooltip="Close the dialog, and do nothing."),
        Binding("left,up", "app.focus_previous", "Previous", show=False),
        Binding("right,down", "app.focus_next", "Next", show=False),
    ]

    DEFAULT_CSS = """
    Dialog {
        align: center middle;
        & > #frame {
            width: 84; max-width: 96%; height: auto; max-height: 96%;
            border: round $tone-moving; background: $surface; padding: 1 2;
            border-title-style: bold;
        }
        &.-danger > #frame { border: heavy $tone-bad; border-title-color: $tone-bad; }
        #body { height: auto; max-height: 100%; }
        #buttons { height: auto; align-horizontal: right; margin-top: 1; dock: bottom; }
        Button { margin-left: 2; min-width: 12; }
        Button.-danger { color: $tone-bad; }
        Button:focus { text-style: bold reverse; }
        Button:disabled { text-style: dim; }
    }
    """

    AUTO_FOCUS = ""

    def __init__(self, title: str, clock: Callable[[], float]) -> None:
        super().__init__()
        self._title = printable(title)
        self._clock = clock
        self._hears_from = 0.0

    @property
    def deaf(self) -> bool:
        """Whether keys do nothing yet."""
        return self._clock() < self._hears_from

    def compose(self) -> ComposeResult:
        """Put the buttons below the body."""
        frame = Vertical(id="frame")
        frame.border_title = Content(self._title)
        with frame:
            with VerticalScroll(id="body", can_focus=False):
                yield from self.body()
            with Horizontal(id="buttons"):
                for choice in self.choices():
                    yield Button(
                        Content(choice.label),
                        id=choice.id,
                        compact=True,
                        classes="-danger" if choice.danger else None,
                    )

    def body(self) -> Iterable[Widget]:
        """Return what is above the buttons."""
        raise NotImplementedError

    def choices(self) -> Iterable[Choice]:
        """Return the buttons, from left to right."""
        raise NotImplementedError

    def chosen(self, choice: str) -> None:
        """A button other than Cancel was pressed."""
        raise NotImplementedError

    def show(self, world: World) -> None:
        """The world has changed; most dialogs do not care."""

    def ask(self, *, danger: bool, usual: str) -> None:
        """Wait for an answer from now on.

        Args:
            danger: Whether it is about something dangerous.
            usual: The button that enter presses, unless there is danger.
        """
        self.set_class(danger, "-danger")
        if danger:
            self._hears_from = self._clock() + DEAF_S
        self.query_one(f"#{CANCEL if danger else usual}", Button).focus()

    def action_cancel(self) -> None:
        """Give no answer."""
        self.dismiss(None)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Give the answer of the button."""
        event.stop()
        if event.button.id == CANCEL:
            self.action_cancel()
        elif event.button.id is not None:
            self.chosen(event.button.id)


def command_line(command: str) -> Content:
    """Return how a command line is shown; empty if there is none."""
    if not command:
        return Content()
    return Content.assemble(("$ ", Tone.QUIET.style), (printable(command), Tone.MOVING.style))
