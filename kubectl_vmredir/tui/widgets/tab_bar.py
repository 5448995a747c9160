"""The names of the panes, where there is room for only one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from textual.content import Content
from textual.message import Message

from kubectl_vmredir.tui.looks import Tone
from kubectl_vmredir.tui.widgets.live_text import LiveText

if TYPE_CHECKING:
    from textual.events import Click

TABS: Final = ("1 USB devices", "2 VMs and slots", "3 Redirection")
_GAP: Final = "  "


class TabBar(LiveText):
    """Shows which pane is seen."""

    DEFAULT_CSS = """
    TabBar { height: 1; padding: 0 1; }
    """

    class Chosen(Message):
        """A tab was clicked.

        Attributes:
            tab_bar: The bar.
            number: Number of the pane, from 1.
        """

        def __init__(self, tab_bar: TabBar, number: int) -> None:
            super().__init__()
            self.tab_bar = tab_bar
            self.number = number

        @property
        def control(self) -> TabBar:
            """The bar, for ``@on`` selectors."""
            return self.tab_bar

    def show_active(self, number: int) -> None:
        """Show that this pane is seen."""
        self.show(
            Content(_GAP).join(
                Content.styled(f"▸{tab} ", f"bold {Tone.MOVING.style}")
                if place == number
                else Content.styled(f" {tab} ", Tone.QUIET.style)
                for place, tab in enumerate(TABS, start=1)
            )
        )

    def on_click(self, event: Click) -> None:
        """Choose the tab that was clicked."""
        left = 1
        for number, tab in enumerate(TABS, start=1):
            right = left + len(tab) + 2
            if left <= event.x < right:
                self.post_message(self.Chosen(self, number))
            left = right + len(_GAP)
