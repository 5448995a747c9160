"""Long lists go through the socket in parts: nobody who shares a thread waits for a whole one.

A value is a list, or a dataclass in which the first field that is a tuple is the list. Each part
is a value of the same type with some of the items, so that both ways need no other codec.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

PART_ITEMS: Final = 64
"""Items of one part: 64 VMs take 2 ms to encode, and as long to decode."""

MAX_PARTS: Final = 4096
"""Parts of one value: more VMs than a cluster can have."""


def in_parts(value: Any) -> Sequence[Any]:  # noqa: ANN401 - of any type that is sent
    """Return the parts of a value, at least one; joined again they are the value."""
    items = _items(value)
    if len(items) <= PART_ITEMS:
        return [value]
    starts = range(0, len(items), PART_ITEMS)
    return [_with_items(value, items[start : start + PART_ITEMS]) for start in starts]


def joined(parts: Sequence[Any]) -> Any:  # noqa: ANN401 - as above
    """Return the value of these parts, of which there is at least one."""
    if len(parts) == 1:
        return parts[0]
    items = itertools.chain.from_iterable(_items(part) for part in parts)
    return _with_items(parts[-1], tuple(items))


def _items(value: Any) -> Sequence[Any]:  # noqa: ANN401 - as above
    if isinstance(value, list | tuple):
        return value
    name = _list_field(value)
    found: Sequence[Any] = getattr(value, name) if name else ()
    return found


def _with_items(value: Any, items: Sequence[Any]) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, list | tuple):
        return items
    return dataclasses.replace(value, **{_list_field(value): items})


def _list_field(value: Any) -> str:  # noqa: ANN401 - as above
    if not dataclasses.is_dataclass(value):
        return ""
    names = (field.name for field in dataclasses.fields(value))
    return next((name for name in names if isinstance(getattr(value, name), tuple)), "")
