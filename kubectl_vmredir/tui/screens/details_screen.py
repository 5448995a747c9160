"""All that is known of the thing under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen

from kubectl_vmredir.tui.drawing import printable
from kubectl_vmredir.tui.widgets.pairs import Pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from kubectl_vmredir.tui.widgets.pairs import Pair
    from kubectl_vmredir.tui.world import World


class DetailsScreen(ModalScreen[None]):
    """A frame with text that may be longer than the screen.

    Args:
        title: Stands in the frame; may hold untrusted text.
        text: Returns the text, as it is now.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,d,question_mark", "dismiss(None)", "Close", tooltip="Close this."),
        Binding("down,j", "scroll_text(1)", "Down", show=False),
        Binding("up,k", "scroll_text(-1)", "Up", show=False),
    ]

    DEFAULT_CSS = """
    DetailsScreen {
        align: center middle;
        & > VerticalScroll {
            width: 96; max-width: 96%; height: auto; max-height: 96%;
            border: round $tone-moving; background: $surface; padding: 1 2;
            border-title-style: bold; border-subtitle-color: $tone-quiet;
            scrollbar-size-vertical: 1;
        }
    }
    """

    def __init__(self, title: str, text: Callable[[], list[Pair]]) -> None:
        super().__init__()
        self._title = printable(title)
        self._make_text = text
        self._text = Pairs()

    def compose(self) -> ComposeResult:
        """Put the text into a frame."""
        frame = VerticalScroll(self._text)
        frame.border_title = Content(self._title)
        frame.border_subtitle = Content("esc: close")
        yield frame

    def on_mount(self) -> None:
        """Show the text."""
        self.refresh_text()

    def show(self, world: World) -> None:
        """Show the text as it is now."""
        del world
        self.refresh_text()

    def refresh_text(self) -> None:
        """Show the text as it is now; the same text is not drawn again."""
        self._text.show_pairs(self._make_text())

    def action_scroll_text(self, lines: int) -> None:
        """Scroll by so many lines."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)
