"""Kubernetes objects as plain JSON, and the few things that are asked of all of them.

An object in the store is never changed in place: who wants another one makes a copy.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, Final

Json = dict[str, Any]
"""An object as the wire has it."""

_GO_ESCAPES: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
"""What Go's encoding/json escapes in strings; these characters occur nowhere else in JSON."""


def timestamp(*, after_s: float = 0.0) -> str:
    """Return the time so many seconds from now as metav1.Time writes it: UTC, whole seconds."""
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=after_s)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> dt.datetime:
    """Read a metav1.Time or MicroTime.

    Raises:
        ValueError: If it is something else.
    """
    return dt.datetime.fromisoformat(text)


def metadata(obj: Json) -> Json:
    """Return the metadata of an object; an empty one if it has none."""
    found = obj.get("metadata")
    return found if isinstance(found, dict) else {}


def dig(obj: Json, *path: str) -> Any:  # noqa: ANN401 - JSON
    """Return the value under nested keys, None where there is none."""
    value: Any = obj
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def to_wire(value: object, *, indent: int | None = None) -> str:
    """Write JSON as Go's encoder does.

    Args:
        value: Anything that has a JSON form.
        indent: Spaces per level: 2 for people at kube-apiserver, 1 at virt-api. None: compact.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=False)
    for character, escape in _GO_ESCAPES.items():
        text = text.replace(character, escape)
    return text
