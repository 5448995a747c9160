"""Text that is drawn again only when it is another one."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static


class LiveText(Static):
    """A static text for things that are looked at often and change seldom."""

    DEFAULT_CSS = """
    LiveText { height: auto; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__("", markup=False, id=id, classes=classes)
        self._shown = Content()

    @property
    def shown(self) -> Content:
        """What it shows."""
        return self._shown

    def show(self, content: Content) -> None:
        """Show this."""
        if not content.is_same(self._shown):
            before, self._shown = self._shown, content
            self.update(content, layout=self._moves_others(before, content))

    def _moves_others(self, before: Content, after: Content) -> bool:
        """Return whether it takes more lines than before, or fewer."""
        if not self.styles.auto_dimensions:
            return False
        rules, width = self.styles.get_rules(), self.content_size.width
        return not width or (before.get_height(rules, width) != after.get_height(rules, width))
