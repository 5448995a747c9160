"""What the agent writes down, the latest below, as it is written."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from textual.containers import VerticalScroll

from kubectl_vmredir.tui.drawing import plain
from kubectl_vmredir.tui.screens.details_screen import DetailsScreen

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_vmredir.tui.widgets.pairs import Pair

LOOK_EVERY_S: Final = 1.0
SHOWN_BYTES: Final = 64 << 10
"""So much of the end of a log is shown."""


class LogScreen(DetailsScreen):
    """Shows the end of a log, and stays at it unless one scrolls up.

    Args:
        path: The log.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"Log: {path}", self._pairs)
        self._path = path
        self._lines: list[str] = ["◌ reading…"]
        self._seen: tuple[int, int] | None = None

    def on_mount(self) -> None:
        """Read it now, and whenever it has grown."""
        super().on_mount()
        self.look()
        self.set_interval(LOOK_EVERY_S, self.look)

    def look(self) -> None:
        """Read it again, if it has changed."""
        self.run_worker(self._read(), name="log", group="log", exclusive=True)

    async def _read(self) -> None:
        found = await asyncio.to_thread(_tail, self._path, self._seen)
        if found is None:
            return
        self._seen, self._lines = found
        frame = self.query_one(VerticalScroll)
        follows = frame.scroll_y >= frame.max_scroll_y
        self.refresh_text()
        if follows:
            frame.scroll_end(animate=False)

    def _pairs(self) -> list[Pair]:
        return [("", plain(line)) for line in self._lines]


def _tail(path: Path, seen: tuple[int, int] | None) -> tuple[tuple[int, int], list[str]] | None:
    """Return the end of a file by lines, and what tells it from how it is later.

    Args:
        path: The file.
        seen: What told it when it was read last.

    Returns:
        None if it has not changed.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            state = found.st_ino, found.st_size
            if state == seen:
                return None
            file.seek(max(found.st_size - SHOWN_BYTES, 0))
            lines = file.read(SHOWN_BYTES).decode(errors="replace").splitlines()
    except OSError as exc:
        return (0, 0), [f"✖ it cannot be read: {exc.strerror}"]
    cut = found.st_size > SHOWN_BYTES
    return state, lines[cut:] or ["○ nothing has been written down yet"]
