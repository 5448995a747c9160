"""Pictures of the screen, kept to be compared: a change is looked at before it is kept.

Set ``UPDATE_PICTURES=1`` to keep the pictures as they are now.
"""

from __future__ import annotations

import asyncio
import difflib
import html
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.tui import Tui

FOLDER: Final = Path(__file__).parents[1] / "data" / "tui"

_LIMIT_S: Final = 5.0
_FONTS: Final = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
_TEXT: Final = re.compile(r"<text[^>]* x=\"([\d.]+)\" y=\"([\d.]+)\"[^>]*>([^<]*)</text>")


def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have times of day be those of one place; to be made a fixture."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


async def compare(tui: Tui, name: str, folder: Path = FOLDER) -> None:
    """Compare the screen with its picture.

    Args:
        tui: What is on the screen.
        name: Of the picture.
        folder: Where it is.

    Raises:
        AssertionError: If it looks different, with what differs in its text.
    """
    path = folder / f"{name}.svg"
    # The fonts would be fetched from the network; whoever looks has one of their own.
    seen = _FONTS.sub("", await _at_rest(tui))
    if os.environ.get("UPDATE_PICTURES"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(seen)
    kept = path.read_text() if path.exists() else ""
    if seen != kept:
        changes = "\n".join(difflib.unified_diff(_lines(kept), _lines(seen), lineterm="", n=0))
        raise AssertionError(
            f"the screen does not look like {path}:\n{changes or 'only colours differ'}\n"
            "Look at it, and keep it with UPDATE_PICTURES=1 if it is as it should be."
        )


async def _at_rest(tui: Tui) -> str:
    """Return the screen when it does not change any more."""
    seen, before = tui.app.export_screenshot(title="vmredir"), ""
    async with asyncio.timeout(_LIMIT_S):
        while seen != before:
            await tui.pilot.pause()
            seen, before = tui.app.export_screenshot(title="vmredir"), seen
    return seen


def _lines(svg: str) -> list[str]:
    """Return the text of a picture, line by line."""
    lines: dict[float, list[tuple[float, str]]] = {}
    for x, y, text in _TEXT.findall(svg):
        lines.setdefault(float(y), []).append((float(x), html.unescape(text)))
    return ["".join(text for _, text in sorted(parts)) for _, parts in sorted(lines.items())]
