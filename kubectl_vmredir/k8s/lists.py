"""Takes a list of the API server apart, object by object.

To decode a page of 500 VMs in one go takes 50 ms or more, in which nothing else happens.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_vmredir.k8s.objects import JsonObject

_DECODER: Final = json.JSONDecoder()
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class Page:
    """A list, or a page of one. Iterated once, it gives its items, each decoded when it is due.

    Iterating raises ValueError if it is no JSON object.

    Attributes:
        rest: What it says besides, when it was iterated to its end; with its ``items`` if those
            are no array.

    Args:
        body: As it came; nothing at all is an empty list.
    """

    def __init__(self, body: bytes) -> None:
        self.rest: JsonObject = {}
        self._body = body

    def __iter__(self) -> Iterator[object]:
        if not self._body:
            return
        text = self._body.decode()
        at, more = _begin(text, 0, "{}")
        while more:
            name, at = _value(text, at)
            if not isinstance(name, str):
                raise ValueError("a name that is no text")
            at = _expect(text, at, ":")
            if name == "items" and text.startswith("[", at):
                at, more = _begin(text, at, "[]")
                while more:
                    item, at = _value(text, at)
                    yield item
                    at, more = _go_on(text, at, "]")
            else:
                self.rest[name], at = _value(text, at)
            at, more = _go_on(text, at, "}")
        if at != len(text):
            raise ValueError("more behind the object")


def _begin(text: str, at: int, brackets: str) -> tuple[int, bool]:
    """Return where the first element begins, and whether there is one."""
    at = _expect(text, at, brackets[0])
    return (
        (_expect(text, at, brackets[1]), False) if text.startswith(brackets[1], at) else (at, True)
    )


def _go_on(text: str, at: int, end: str) -> tuple[int, bool]:
    """Return where the next element begins, and whether there is one."""
    if text.startswith(end, at):
        return _expect(text, at, end), False
    return _expect(text, at, ","), True


def _value(text: str, at: int) -> tuple[object, int]:
    value, end = _DECODER.raw_decode(text, at)
    return value, _after_space(text, end)


def _expect(text: str, at: int, sign: str) -> int:
    at = _after_space(text, at)
    if not text.startswith(sign, at):
        raise ValueError(f"no {sign} at {at}")
    return _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None, "it matches nothing at all as well"
    return found.end()
