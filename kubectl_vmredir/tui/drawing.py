"""Lines of text on a screen of fixed cells.

What a device or the cluster calls itself is never markup here: it goes into :class:`Content` as it
is, without anything that a terminal would obey.
"""

from __future__ import annotations

import time
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from textual.content import Content

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_BARS: Final = "▁▂▃▄▅▆▇█"
_BYTES_IN_UNIT: Final = 1024


def printable(text: str) -> str:
    """Return untrusted text without controls, so that it stays on its line."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(repr(char)[1:-1] if _is_obeyed(char) else char for char in text)


def _is_obeyed(char: str) -> bool:
    """Return whether a character is a command to a terminal, or ends a line."""
    category = unicodedata.category(char)
    return category[0] == "C" or category in ("Zl", "Zp")


def plain(text: str) -> Content:
    """Return untrusted text as content."""
    return Content(printable(text))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a list.

    Attributes:
        title: What stands above it.
        width: Cells; 0 for a share of what the others leave.
        from_width: It is left out of lists that have fewer cells.
        right: Whether it is aligned to the right.
        share: How much it gets of what the others leave, beside others without a width.
    """

    title: str
    width: int = 0
    from_width: int = 0
    right: bool = False
    share: int = 1


def titles(columns: Iterable[Column]) -> Sequence[Content]:
    """Return the cells of the line above a list."""
    return [Content(column.title) for column in columns]


def line(columns: Sequence[Column], cells: Sequence[Content], width: int) -> Content:
    """Return a line of exactly that many cells: each cell in its column, cut where it must be."""
    shown = [
        (column, cell)
        for column, cell in zip(columns, cells, strict=True)
        if width >= column.from_width
    ]
    shares = sum(column.share for column, _ in shown if not column.width)
    left = width - sum(column.width for column, _ in shown) - (len(shown) - 1)
    parts: list[Content] = []
    for column, cell in shown:
        size = column.width
        if not size:
            size = max(left * column.share // shares, 1)
            left, shares = left - size, shares - column.share
        fitted = cell.truncate(size, ellipsis=True, pad=True)
        if column.right and cell.cell_length < size:
            fitted = cell.pad_left(size - cell.cell_length)
        parts.append(fitted)
    return Content(" ").join(parts).truncate(width, pad=True)


def sparkline(values: Sequence[float], width: int) -> str:
    """Return the latest values as bars, as many as fit, the highest one as high as can be."""
    latest = [*[0.0] * (width - len(values)), *values[-width:]]
    highest = max(latest, default=0.0)
    if highest <= 0:
        return _BARS[0] * width
    steps = len(_BARS) - 1
    return "".join(_BARS[min(steps, round(value / highest * steps))] for value in latest)


def byte_count(count: float) -> str:
    """Return a number of bytes for people: ``812 B``, ``1.5 KiB``, ``23 MiB``."""
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if count < _BYTES_IN_UNIT:
            break
        count, unit = count / _BYTES_IN_UNIT, larger
    precise = unit != "B" and count < 10
    return f"{count:.1f} {unit}" if precise else f"{count:.0f} {unit}"


def time_of_day(time_s: float) -> str:
    """Return the local time of day of seconds since the epoch."""
    return time.strftime("%H:%M:%S", time.localtime(time_s))
