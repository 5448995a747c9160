"""What an API server hands out: objects, lists, and the events of a watch."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.errors import ClusterError

T = TypeVar("T")

JsonObject = dict[str, Any]
"""A decoded JSON object of the cluster: untrusted, of any shape below the first level."""

Keep = Callable[[JsonObject], JsonObject]
"""Returns what is to be kept of an object: a cluster may have very many, and say much of each."""

_LONGEST_TEXT: Final = 1000


def whole(obj: JsonObject) -> JsonObject:
    """Keep all of an object."""
    return obj


def printable(text: str) -> str:
    """Return untrusted text of the cluster with control characters escaped, cut where too long."""
    plain = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in " ".join(text[:_LONGEST_TEXT].split())
    )
    return plain + "..." if len(text) > _LONGEST_TEXT else plain


def metadata(obj: JsonObject) -> JsonObject:
    """Return ``metadata`` of an object, empty if it has none."""
    return part(obj, "metadata")


def part(parent: JsonObject, key: str) -> JsonObject:
    """Return an object within an object, empty if there is none."""
    found = parent.get(key)
    return found if isinstance(found, dict) else {}


def text(parent: JsonObject, key: str) -> str:
    """Return a text within an object, as :func:`printable` does; empty if there is none."""
    found = parent.get(key)
    return printable(found) if isinstance(found, str) else ""


def as_yaml(obj: JsonObject) -> str:
    """Return an object for people, as ``kubectl get -o yaml`` does: without managed fields."""
    import yaml  # few need it

    shown = {**obj}
    if metadata(obj):
        shown["metadata"] = {
            name: value for name, value in metadata(obj).items() if name != "managedFields"
        }
    text: str = yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)
    return text


@dataclass(frozen=True, slots=True)
class ListResult(Generic[T]):
    """All pages of a list.

    Attributes:
        items: The objects, or what was read from each. Built-in kinds come without ``kind`` and
            ``apiVersion`` here.
        resource_version: From where a watch misses nothing.
    """

    items: Sequence[T]
    resource_version: str


class EventType(enum.StrEnum):
    """What a :class:`WatchEvent` says."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    """``object`` is as it was last seen."""
    LISTED = "LISTED"
    """All that exists has been told: what is known is true. First after the first list, then
    after each LOST."""
    LOST = "LOST"
    """What is known is old from now on, because of ``cause``; followed by LISTED in the end."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch.

    Attributes:
        type: What happened.
        object: The object; empty for LISTED and LOST.
        cause: Why it was lost; only for LOST.
    """

    type: EventType
    object: JsonObject = field(default_factory=dict)
    cause: ClusterError | None = None
