"""The redirection that the cursor is on: how it is now, and its story."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubectl_vmredir.service.interface import StoryEvent
from kubectl_vmredir.tui import empty, story
from kubectl_vmredir.tui.drawing import Column
from kubectl_vmredir.tui.widgets.pane import Pane

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.events import Resize

    from kubectl_vmredir.service.interface import RedirectionView
    from kubectl_vmredir.tui.world import World

_TALL: Final = 16
"""From this height on there is room for facts of more than one line."""

_COLUMNS: Final = (Column("TIME", 8), Column("STATE", 16), Column("WHAT HAPPENED"))


class RedirectionPane(Pane[StoryEvent]):
    """Tells of one redirection, the latest event first.

    Args:
        wall_clock: Returns seconds since the epoch.
    """

    def __init__(self, wall_clock: Callable[[], float]) -> None:
        super().__init__(
            "3 Redirection",
            _COLUMNS,
            key=lambda event: event,
            cells=story.event_line,
            id="redirection",
        )
        self.list.stays_on_top = True
        self._wall_clock = wall_clock
        self._world: World | None = None
        self._view: RedirectionView | None = None

    def show(self, world: World, view: RedirectionView | None) -> None:
        """Show this redirection, or what there is to say where there is none."""
        self._world, self._view = world, view
        self.refilter()

    @property
    def moves(self) -> bool:
        """Whether it looks different a second later, although nothing is heard."""
        if self._world is None or self._view is None:
            return False
        rates = self._world.rates.get(self._view.status.id)
        return rates is not None and rates.moves(self._wall_clock())

    def refilter(self) -> None:
        """Show the events that pass the filter."""
        if self._world is None:
            return
        if (view := self._view) is None:
            self.show_rows((), empty.redirection(self._world), "")
            return
        matches = self.matches
        events = [
            event
            for event in reversed(view.story)
            if matches(f"{event.state} {story.event_text(event)}")
        ]
        notice = story.facts(
            self._world,
            view.status,
            self._wall_clock(),
            max(self.size.width - 2, 1),
            whole=self.size.height >= _TALL,
        )
        hidden = len(view.story) - len(events)
        self.show_rows(events, notice, f"{len(events)} of {len(view.story)}" if hidden else "")

    def on_resize(self, event: Resize) -> None:
        """Facts are cut to the width."""
        super().on_resize(event)
        self.refilter()
