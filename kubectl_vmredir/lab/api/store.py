"""All objects, one counter for their versions, and a ring of what changed: the lab's etcd.

The counter is shared by all resources, and each write makes exactly one change, so the
history is a run of consecutive versions. A watcher does not queue: it reads the ring from
where it stands, and one that is too slow for the ring is told so, as in a real cluster.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .objects import metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .objects import Json
    from .resources import Resource

HISTORY_CHANGES: Final = 4096
"""How many changes a watcher may lag behind before it is told 410 Gone."""


_UNKNOWN_VERSIONS: Final = 10_000
"""More than are written between two dumps."""


class ChangeKind(enum.StrEnum):
    """Types of watch events about objects."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Change:
    """One write.

    Attributes:
        version: The version it made.
        kind: What it did.
        resource: The type of the object.
        obj: The object as written; of a deleted one the last state, with the new version.
        before: The object as it was; None if there was none.
    """

    version: int
    kind: ChangeKind
    resource: Resource
    obj: Json
    before: Json | None


class TooOldError(Exception):
    """What happened after a version is no longer known.

    Attributes:
        oldest: The oldest version that can be watched from.
    """

    def __init__(self, version: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {version} ({oldest})")
        self.oldest = oldest


Key = tuple[str, str]
"""Namespace (empty for none) and name."""


def key_of(obj: Json) -> Key:
    """Return where an object stands among its kind."""
    meta = metadata(obj)
    return meta.get("namespace", ""), meta["name"]


def _undo(objects: dict[Key, Json], change: Change) -> None:
    if change.before is None:
        del objects[key_of(change.obj)]
    else:
        objects[key_of(change.obj)] = change.before


class Store:
    """Holds the objects; knows no rule but that each write gets the next version.

    Objects that go in and come out are shared and must not be changed in place.

    Args:
        history_changes: Size of the ring of changes.
    """

    def __init__(self, *, history_changes: int = HISTORY_CHANGES) -> None:
        self._objects: dict[Resource, dict[Key, Json]] = {}
        self._history: deque[Change] = deque(maxlen=history_changes)
        self._version = 1
        self._changed = asyncio.Event()

    @property
    def version(self) -> int:
        """The version of the last write."""
        return self._version

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next write; take it before looking, then wait for it."""
        return self._changed

    def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """Return an object; None if there is none."""
        return self._objects.get(resource, {}).get((namespace, name))

    def list(
        self, resource: Resource, namespace: str = "", *, at: int | None = None
    ) -> Sequence[Json]:
        """Return all objects in order of their keys.

        Args:
            resource: Their type.
            namespace: Their namespace; empty for all.
            at: The version at which to look; None for now.

        Raises:
            TooOldError: If the ring no longer reaches back to ``at``.
        """
        found = self._objects.get(resource, {})
        if at is not None:
            found = dict(found)
            for change in reversed(self.changes_since(at)):
                if change.resource is resource:
                    _undo(found, change)
        return [found[key] for key in sorted(found) if not namespace or key[0] == namespace]

    def put(self, resource: Resource, obj: Json) -> Json:
        """Write an object, new or not, and return it with its version."""
        objects = self._objects.setdefault(resource, {})
        before = objects.get(key_of(obj))
        written = self._stamp(obj)
        objects[key_of(obj)] = written
        kind = ChangeKind.ADDED if before is None else ChangeKind.MODIFIED
        self._record(Change(self._version, kind, resource, written, before))
        return written

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        """Take an object out; it must be there."""
        before = self._objects[resource].pop((namespace, name))
        last = self._stamp(before)
        self._record(Change(self._version, ChangeKind.DELETED, resource, last, before))

    def changes_since(self, version: int) -> Sequence[Change]:
        """Return what was written after ``version``, oldest first.

        Raises:
            TooOldError: If the ring no longer reaches back so far.
        """
        oldest = self._history[0].version - 1 if self._history else self._version
        if version < oldest:
            raise TooOldError(version, oldest)
        return list(itertools.islice(self._history, version - oldest, None))

    def compact(self) -> None:
        """Forget the history: each watch from an older version than now is told 410 Gone."""
        self._history.clear()

    def dump(self) -> Json:
        """Return everything but the history as JSON."""
        objects = [
            {"resource": [resource.group, resource.version, resource.plural], "object": obj}
            for resource, found in self._objects.items()
            for obj in found.values()
        ]
        return {"version": self._version, "objects": objects}

    def load(self, resources: dict[tuple[str, str, str], Resource], dumped: Json) -> None:
        """Take over what :meth:`dump` returned; the history starts empty.

        Whoever watches from a version of before is told that it is too old: after a crash
        there may be versions that were given out and never dumped.

        Raises:
            KeyError: If there is a resource in it that ``resources`` lacks.
        """
        self._version = dumped["version"] + _UNKNOWN_VERSIONS
        self._history.clear()
        self._objects = {}
        for entry in dumped["objects"]:
            group, version, plural = entry["resource"]
            resource = resources[group, version, plural]
            self._objects.setdefault(resource, {})[key_of(entry["object"])] = entry["object"]

    def _stamp(self, obj: Json) -> Json:
        self._version += 1
        return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._version)}}

    def _record(self, change: Change) -> None:
        self._history.append(change)
        self._changed.set()
        self._changed = asyncio.Event()
