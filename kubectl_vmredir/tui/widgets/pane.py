"""A framed list with a line of titles, a filter, and a place for what must be said instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from textual.containers import Vertical
from textual.content import Content

from kubectl_vmredir.tui.drawing import Column, line, titles
from kubectl_vmredir.tui.widgets.filter_line import FilterLine, matcher
from kubectl_vmredir.tui.widgets.live_text import LiveText
from kubectl_vmredir.tui.widgets.row_list import Row, RowList

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from textual.app import ComposeResult
    from textual.events import Resize
    from textual.widgets import Input


class Pane(Vertical, Generic[Row]):
    """Shows rows of one kind.

    Args:
        title: Stands in the frame; the digit before it is the key that leads there.
        columns: Columns of the list.
        key: Names a row.
        cells: Returns what a row shows, a cell for each column.
        id: Id of the widget.
    """

    DEFAULT_CSS = """
    Pane {
        border: round $foreground 40%;
        border-title-color: $foreground;
        border-subtitle-color: $foreground;
        padding: 0;
        &:focus-within { border: heavy $tone-moving; border-title-style: bold; }
        & > .pane--titles { color: $tone-quiet; padding: 0 0 0 1; }
        & > .pane--notice {
            display: none; padding: 0 1; text-wrap: wrap; text-overflow: fold;
            &.-said { display: block; }
        }
    }
    """

    def __init__(
        self,
        title: str,
        columns: Sequence[Column],
        *,
        key: Callable[[Row], Hashable],
        cells: Callable[[Row], Sequence[Content]],
        id: str,  # noqa: A002 - Textual's own name
    ) -> None:
        super().__init__(id=id)
        self.border_title = Content(title)
        self._columns = columns
        self._cells = cells
        self._titles = LiveText(classes="pane--titles")
        self._notice = LiveText(classes="pane--notice")
        self._filter_line = FilterLine()
        self.list: RowList[Row] = RowList(key, self._line)

    def compose(self) -> ComposeResult:
        """Put the parts below each other."""
        yield self._notice
        yield self._titles
        yield self.list
        yield self._filter_line

    @property
    def matches(self) -> Callable[[str], bool]:
        """Whether a text passes the filter."""
        return matcher(self._filter_line.value)

    @property
    def filtered(self) -> bool:
        """Whether there is a filter."""
        return bool(self._filter_line.value.strip())

    def open_filter(self) -> None:
        """Begin to type a filter."""
        self._filter_line.open()

    def filter_for(self, words: str) -> None:
        """Show what has these words; all, if there are none."""
        self._filter_line.set_filter(words)

    def clear_filter(self) -> bool:
        """Drop the filter; return whether there was one."""
        return self._filter_line.clear_filter()

    def show_rows(self, rows: Sequence[Row], notice: Content, count: str) -> None:
        """Show these rows.

        Args:
            rows: The rows.
            notice: What must be said above them; empty for nothing.
            count: Stands in the frame.
        """
        self._notice.show(notice)
        self._notice.set_class(bool(notice), "-said")
        self._titles.display = bool(rows)
        if str(self.border_subtitle) != count:
            self.border_subtitle = Content(count)
        self.list.show(rows)

    def on_resize(self, event: Resize) -> None:
        """Titles are as wide as the list."""
        del event
        width = self.list.scrollable_content_region.width - 1
        if width > 0:
            self._titles.show(line(self._columns, titles(self._columns), width))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while one types."""
        event.stop()
        self.refilter()

    def on_filter_line_kept(self, event: FilterLine.Kept) -> None:
        """Go back to the list."""
        event.stop()
        self.list.focus()

    def refilter(self) -> None:
        """Show what passes the filter now."""
        raise NotImplementedError

    def _line(self, row: Row, width: int) -> Content:
        return line(self._columns, self._cells(row), width)
