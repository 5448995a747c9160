"""What a controller or a node knows of the cluster: collections, kept in step by watches.

A write's answer is learnt at once, so that nobody acts twice on what it has just changed; an older
event of the watch does not undo it.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

from kubectl_vmredir.k8s.objects import EventType
from kubectl_vmredir.k8s.status import StatusError
from kubectl_vmredir.lab import objects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject, WatchEvent
    from kubectl_vmredir.lab.objects import Collection

    Key = tuple[str, str]

Found = TypeVar("Found")

NOT_FOUND: Final = 404
CONFLICT: Final = 409

_GONE_KEPT: Final = 1024
"""Of so many objects it is known that they are gone: more than are deleted during one request."""


class Cache:
    """The objects of some collections, by namespace and name.

    Args:
        client: Whose view it is.
        collections: What to watch, with the parameters of each watch (selectors).
    """

    def __init__(
        self, client: KubeClient, collections: Mapping[Collection, Mapping[str, str]]
    ) -> None:
        self._client = client
        self._params = collections
        self._objects: dict[Collection, dict[Key, JsonObject]] = {
            collection: {} for collection in collections
        }
        self._by_uid: dict[str, JsonObject] = {}
        self._gone: dict[str, float] = {}  # version by UID, the oldest first
        self._unlisted = set(collections)
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            ExceptionGroup: Of ClusterErrors, if waiting cannot cure them.
        """
        async with asyncio.TaskGroup() as group:
            for collection, params in self._params.items():
                group.create_task(self._watch(collection, params), name=f"watch-{collection.name}")

    async def listed(self) -> None:
        """Wait until all that exists is known."""
        await self.until(lambda: not self._unlisted)

    def items(self, collection: Collection) -> list[JsonObject]:
        """Return the objects of a collection, in no order. They must not be changed."""
        return list(self._objects[collection].values())

    def get(self, collection: Collection, namespace: str, name: str) -> JsonObject | None:
        """Return one object, None if there is none."""
        return self._objects[collection].get((namespace, name))

    def by_uid(self, uid: str) -> JsonObject | None:
        """Return the object with that UID, of whatever kind; None if there is none."""
        return self._by_uid.get(uid)

    def learn(self, collection: Collection, obj: JsonObject) -> None:
        """Take an object as the server has just shown it.

        An answer may come after the event of the watch that tells the object's end: it is old.
        """
        if int(objects.version(obj)) <= self._gone.get(objects.uid(obj), 0):
            return
        known = self._objects[collection]
        key = _key(obj)
        old = known.get(key)
        if old is None or _is_newer(obj, old):
            if old is not None:
                self._by_uid.pop(objects.uid(old), None)
            known[key] = self._by_uid[objects.uid(obj)] = obj
            self._wake()

    def forget(self, collection: Collection, obj: JsonObject, *, version: float = math.inf) -> None:
        """Take an object for gone.

        Args:
            collection: Where it was.
            obj: Which it was.
            version: From which on it was; it may come into sight again with a later one.
        """
        self._gone[objects.uid(obj)] = version
        while len(self._gone) > _GONE_KEPT:
            del self._gone[next(iter(self._gone))]
        known = self._objects[collection]
        old = known.get(_key(obj))
        if old is not None and objects.uid(old) == objects.uid(obj):
            del known[_key(obj)], self._by_uid[objects.uid(obj)]
            self._wake()

    async def look(self, collection: Collection, obj: JsonObject) -> None:
        """Ask the server what has become of an object.

        Raises:
            ClusterError: If it does not say.
        """
        try:
            self.learn(collection, await self._client.get(collection.path(obj)))
        except StatusError as error:
            if error.status != NOT_FOUND:
                raise
            self.forget(collection, obj)

    async def look_around(self, collection: Collection) -> None:
        """Ask the server for the objects of a collection, whatever the watch has told.

        Raises:
            ClusterError: If it does not say.
        """
        found = await self._client.list_all(collection, self._params[collection])
        for obj in found.items:
            self.learn(collection, obj)

    @property
    def changed(self) -> asyncio.Event:
        """Set at the next change; take it before looking, then wait for it."""
        return self._changed

    async def until(self, find: Callable[[], Found | None]) -> Found:
        """Wait until ``find`` finds something, asking again at each change, and return it."""
        while not (found := find()):
            await self._changed.wait()
        return found

    def _wake(self) -> None:
        # Those who wait go on with the event they have; the next wait gets a new one.
        self._changed.set()
        self._changed = asyncio.Event()

    async def _watch(self, collection: Collection, params: Mapping[str, str]) -> None:
        async with aclosing(self._client.watch(collection, params=params)) as events:
            async for event in events:
                self._follow(collection, event)

    def _follow(self, collection: Collection, event: WatchEvent) -> None:
        match event.type:
            case EventType.ADDED | EventType.MODIFIED:
                self.learn(collection, event.object)
            case EventType.DELETED:
                version = int(objects.version(event.object))
                self.forget(collection, event.object, version=version)
            case EventType.LISTED:
                self._unlisted.discard(collection)
                self._wake()
            case EventType.LOST:
                pass


def _key(obj: JsonObject) -> Key:
    return objects.namespace(obj), objects.name(obj)


def _is_newer(obj: JsonObject, old: JsonObject) -> bool:
    """Compare resourceVersions, which grow (Kubernetes 1.35 says so; earlier ones do it too)."""
    return objects.uid(obj) != objects.uid(old) or int(objects.version(obj)) > int(
        objects.version(old)
    )
