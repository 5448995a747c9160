"""What changed from event to event, of a recorded trace or of a lab, in one form."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from kubectl_vmredir.k8s.objects import EventType
from kubectl_vmredir.lab.objects import Collection
from tests.support.traces import TRACES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from kubectl_vmredir.k8s.client import KubeClient

Object = dict[str, Any]
Event = tuple[str, Object]
Change = tuple[str, ...]
"""What one event changed: ``+path``, ``~path`` or ``-path``, sorted; of a phase with its value."""

_LIMIT_S = 60.0

# Fields that a lab does not have to have, and those that change at every write.
_IGNORED = re.compile(
    r"metadata\.(resourceVersion|generation|managedFields|deletionGracePeriodSeconds"
    r"|annotations\.lab\.)"
    r"|status\.(phaseTransitionTimestamps|memory|migrationState\.migrationConfiguration)"
)
_NAMES = re.compile(r"(activePods\.)[0-9a-f-]{36}")


def trace(name: str) -> list[Event]:
    """Return the events of a recorded trace."""
    lines = (TRACES / f"{name}.jsonl").read_text().splitlines()
    return [(line["type"], line["object"]) for line in map(json.loads, lines)]


class Recording:
    """What a client that watches has seen so far.

    Attributes:
        events: In order of arrival.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = asyncio.Event()

    def hear(self, event: Event) -> None:
        """Add an event."""
        self.events.append(event)
        self._changed.set()

    async def until(self, condition: Callable[[Event], bool]) -> None:
        """Wait until there is an event for which something is so."""
        async with asyncio.timeout(_LIMIT_S):
            while not any(condition(event) for event in self.events):
                self._changed.clear()
                await self._changed.wait()

    async def caught_up(self, obj: Object) -> None:
        """Wait until an object has been seen in the version that it has here."""
        await self.until(lambda event: _identity(event[1]) == _identity(obj))


@asynccontextmanager
async def recording(client: KubeClient, namespace: str = "demo") -> AsyncIterator[Recording]:
    """Record the VMIs and migrations of a namespace, as a client that watches sees them."""
    recorded = Recording()
    listed = [asyncio.Event(), asyncio.Event()]

    async def watch(collection: Collection, seen: asyncio.Event) -> None:
        async for event in client.watch(collection.of(namespace)):
            if event.type is EventType.LISTED:
                seen.set()
            else:
                recorded.hear((str(event.type), event.object))

    async with asyncio.TaskGroup() as group:
        collections = (Collection.VMIS, Collection.VMIMS)
        tasks = [
            group.create_task(watch(collection, seen))
            for collection, seen in zip(collections, listed, strict=True)
        ]
        for seen in listed:
            await seen.wait()
        yield recorded
        for task in tasks:
            task.cancel()


def _identity(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]


def changes(events: Iterable[Event], kind: str) -> list[Change]:
    """Return what each event of one kind of object changed; events that changed nothing are left
    out, and so is the first sight of an object."""
    result: list[Change] = []
    known: dict[str, dict[str, object]] = {}
    for event_type, obj in events:
        if obj["kind"] != kind:
            continue
        name = obj["metadata"]["name"]
        flat = {key: value for key, value in _flat(obj) if not _IGNORED.search(key)}
        old = known.get(name)
        known[name] = flat
        if old is None:
            continue
        change = ["DELETED"] if event_type == "DELETED" else []
        change += [_said("+", key, flat) for key in flat.keys() - old.keys()]
        change += [
            _said("~", key, flat) for key in flat.keys() & old.keys() if flat[key] != old[key]
        ]
        change += ["-" + _NAMES.sub(r"\1*", key) for key in old.keys() - flat.keys()]
        if change and event_type != "DELETED":
            result.append(tuple(sorted(change)))
        elif event_type == "DELETED":
            result.append(("DELETED",))
    return result


def _said(sign: str, key: str, flat: dict[str, object]) -> str:
    value = f"={flat[key]}" if key == "status.phase" else ""
    return sign + _NAMES.sub(r"\1*", key) + value


def _flat(value: object, path: str = "") -> Iterable[tuple[str, object]]:
    match value:
        case dict() if value:
            for key, item in value.items():
                yield from _flat(item, f"{path}.{key}" if path else key)
        case [{"type": _}, *_]:
            for item in value:
                kind = item.get("type") if isinstance(item, dict) else None
                yield from _flat(item, f"{path}[{kind}]")
        case _:
            yield path, value if not isinstance(value, list) else json.dumps(value)
