"""A list of any length, one line a row, which draws what is seen and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from textual.events import Click, Resize

Row = TypeVar("Row")


class RowList(ScrollView, Generic[Row], can_focus=True):
    """Shows rows, and has a cursor that stays with its row while others come and go.

    Attributes:
        stays_on_top: Whether a cursor on the first row stays there when rows come above it.

    Args:
        key: Names a row, for as long as it is there.
        draw: Draws a row in so many cells.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, tooltip="Move the cursor up."),
        Binding("down,j", "move(1)", "Down", show=False, tooltip="Move the cursor down."),
        Binding("pageup", "page(-1)", "Page up", show=False, tooltip="Move up by a page."),
        Binding("pagedown", "page(1)", "Page down", show=False, tooltip="Move down by a page."),
        Binding("home,g", "move_to(0)", "First", show=False, tooltip="Move to the first row."),
        Binding("end,G", "move_to(-1)", "Last", show=False, tooltip="Move to the last row."),
    ]

    DEFAULT_CSS = """
    RowList {
        height: 1fr;
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        text-wrap: nowrap;
        & > .row-list--cursor { background: $row-resting; }
        &:focus > .row-list--cursor { background: $row-cursor; text-style: bold; }
    }
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"row-list--cursor"}

    ALLOW_SELECT = False

    class CursorMoved(Message):
        """The cursor is on another row, or on none.

        Attributes:
            row_list: The list.
        """

        def __init__(self, row_list: RowList[Any]) -> None:
            super().__init__()
            self.row_list = row_list

        @property
        def control(self) -> RowList[Any]:
            """The list, for ``@on`` selectors."""
            return self.row_list

    class Chosen(Message):
        """A row was clicked twice.

        Attributes:
            row_list: The list.
        """

        def __init__(self, row_list: RowList[Any]) -> None:
            super().__init__()
            self.row_list = row_list

        @property
        def control(self) -> RowList[Any]:
            """The list, for ``@on`` selectors."""
            return self.row_list

    def __init__(self, key: Callable[[Row], Hashable], draw: Callable[[Row, int], Content]) -> None:
        super().__init__()
        self._key = key
        self._draw = draw
        self.stays_on_top = False
        self._rows: Sequence[Row] = ()
        self._cursor = 0
        self._drawn: tuple[int, list[Content]] = (0, [])

    @property
    def rows(self) -> Sequence[Row]:
        """All rows."""
        return self._rows

    @property
    def row(self) -> Row | None:
        """The row under the cursor; None if there are none."""
        return self._rows[self._cursor] if self._rows else None

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows; only what looks different is drawn again."""
        before = self.row
        self._rows = rows
        on_top = self.stays_on_top and self._cursor == 0
        if on_top:
            pass
        elif before is not None and (place := self._place_of(self._key(before))) is not None:
            self._cursor = place
        else:
            self._cursor = max(min(self._cursor, len(rows) - 1), 0)
        self._resize()
        self._refresh_changed()
        after = self.row
        if (before is None) != (after is None) or (
            before is not None and after is not None and self._key(before) != self._key(after)
        ):
            self._see_cursor()
            self.post_message(self.CursorMoved(self))

    def redraw(self) -> None:
        """Draw again what looks different, although the rows are the same."""
        self._refresh_changed()

    def move_to_key(self, key: Hashable) -> bool:
        """Put the cursor on the row of that name; return whether there is one."""
        if (place := self._place_of(key)) is None:
            return False
        self._move_to(place)
        return True

    def render_line(self, y: int) -> Strip:
        """Draw one line of the list."""
        width = self.scrollable_content_region.width
        index = y + self.scroll_offset.y
        if index >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        at_cursor = index == self._cursor
        style = self.get_visual_style("row-list--cursor") if at_cursor else self.visual_style
        # The mark tells where the cursor is without colours, too.
        mark = ("▌" if self.has_focus else "▏") if at_cursor else " "
        content = Content.assemble(mark, self._draw(self._rows[index], width - 1))
        return Visual.to_strips(self, content, width, 1, style, pad=True)[0]

    def on_focus(self) -> None:
        """The cursor looks different in a list that has the focus."""
        self._refresh_rows(self._cursor)

    def on_blur(self) -> None:
        """See :meth:`on_focus`."""
        self._refresh_rows(self._cursor)

    def on_resize(self, event: Resize) -> None:
        """Lines are as long as the list is wide."""
        del event
        self._resize()
        self._drawn = (0, [])
        self._see_cursor()

    def on_click(self, event: Click) -> None:
        """Move to the row that was clicked; a double click chooses it."""
        index = event.y + self.scroll_offset.y
        if index < len(self._rows):
            self._move_to(index)
            if event.chain == 2:
                self.post_message(self.Chosen(self))

    def action_move(self, rows: int) -> None:
        """Move the cursor by so many rows."""
        self._move_to(self._cursor + rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by so many pages."""
        self._move_to(self._cursor + pages * max(self.scrollable_content_region.height - 1, 1))

    def action_move_to(self, index: int) -> None:
        """Move the cursor to a row, counted from the end if negative."""
        self._move_to(index if index >= 0 else len(self._rows) + index)

    def _move_to(self, index: int) -> None:
        before = self._cursor
        self._cursor = max(min(index, len(self._rows) - 1), 0)
        if self._cursor != before:
            self._refresh_rows(before, self._cursor)
            self._see_cursor()
            self.post_message(self.CursorMoved(self))

    def _place_of(self, key: Hashable) -> int | None:
        if self._cursor < len(self._rows) and self._key(self._rows[self._cursor]) == key:
            return self._cursor
        return next((index for index, row in enumerate(self._rows) if self._key(row) == key), None)

    def _resize(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows))

    def _see_cursor(self) -> None:
        self.scroll_to_region(
            Region(0, self._cursor, 1, 1), animate=False, force=True, x_axis=False
        )

    def _refresh_rows(self, *indexes: int) -> None:
        width = self.scrollable_content_region.width
        top = self.scroll_offset.y
        self.refresh(*(Region(0, index - top, width, 1) for index in indexes))

    def _refresh_changed(self) -> None:
        width, height = self.scrollable_content_region.size
        top = self.scroll_offset.y
        drawn = [self._draw(row, width - 1) for row in self._rows[top : top + height]]
        old_top, old = self._drawn
        self._drawn = (top, drawn)
        changed = [
            y
            for y in range(max(len(drawn), len(old)))
            if top != old_top or y >= min(len(drawn), len(old)) or not drawn[y].is_same(old[y])
        ]
        if changed:
            self._refresh_rows(*(top + y for y in changed))
