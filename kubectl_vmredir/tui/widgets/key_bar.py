"""The line at the bottom: the keys that work here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content
from textual.message import Message

from kubectl_vmredir.tui.looks import Tone
from kubectl_vmredir.tui.widgets.live_text import LiveText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.events import Click, Resize


@dataclass(frozen=True, slots=True)
class Key:
    """A key in the line.

    Attributes:
        name: The key as it is written on the keyboard.
        label: What it does.
        action: The action behind it.
        works: Whether it can act now; where it cannot, pressing it says why.
        last: Whether it stays, at the end of the line, however little room there is.
    """

    name: str
    label: str
    action: str
    works: bool = True
    last: bool = False

    @property
    def width(self) -> int:
        """Cells that it takes, with the gap behind it."""
        return len(self.name) + len(self.label) + 3

    @property
    def content(self) -> Content:
        """The key and what it does."""
        if not self.works:
            return Content.styled(f"{self.name} {self.label}", f"{Tone.QUIET.style} dim")
        return Content.assemble((self.name, f"bold {Tone.MOVING.style}"), f" {self.label}")


class KeyBar(LiveText):
    """Shows as many keys as there is room for, and can be clicked."""

    DEFAULT_CSS = """
    KeyBar { height: 1; padding: 0 1; background: $panel; }
    """

    class Clicked(Message):
        """A key was clicked.

        Attributes:
            key_bar: The line.
            action: The action behind the key.
        """

        def __init__(self, key_bar: KeyBar, action: str) -> None:
            super().__init__()
            self.key_bar = key_bar
            self.action = action

        @property
        def control(self) -> KeyBar:
            """The line, for ``@on`` selectors."""
            return self.key_bar

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._keys: Sequence[Key] = ()

    def show_keys(self, keys: Sequence[Key]) -> None:
        """Show these keys, the first ones first if there is no room for all."""
        self._keys = keys
        self.show(Content("  ").join(key.content for key in self._fitting))

    def on_resize(self, event: Resize) -> None:
        """There is room for other keys now."""
        del event
        self.show_keys(self._keys)

    def on_click(self, event: Click) -> None:
        """Do what the key does."""
        left = 1
        for key in self._fitting:
            if left <= event.x < left + key.width - 1:
                self.post_message(self.Clicked(self, key.action))
                return
            left += key.width

    @property
    def _fitting(self) -> Sequence[Key]:
        room = self.size.width  # the padding, less the gap behind the last key
        staying = [key for key in self._keys if key.last]
        room -= sum(key.width for key in staying)
        fitting: list[Key] = []
        for key in self._keys:
            if not key.last and key.width <= room:
                fitting.append(key)
                room -= key.width
        return [*fitting, *staying]
