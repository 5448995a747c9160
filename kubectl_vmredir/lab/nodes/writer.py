"""How a node changes objects: it tries until it is done, as virt-handler does."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from kubectl_vmredir.backoff import exponential_backoff
from kubectl_vmredir.errors import ClusterError
from kubectl_vmredir.k8s.status import StatusError
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cache import CONFLICT, NOT_FOUND

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.cache import Cache
    from kubectl_vmredir.lab.clock import Clock
    from kubectl_vmredir.lab.objects import Collection

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


class Writer:
    """Changes objects that a cache knows.

    Args:
        client: Talks to the API server.
        cache: Learns what is written.
        clock: For the pauses between tries.
    """

    def __init__(self, client: KubeClient, cache: Cache, clock: Clock) -> None:
        self._client = client
        self._cache = cache
        self._clock = clock

    async def change(
        self,
        collection: Collection,
        obj: JsonObject,
        change: Callable[[JsonObject], JsonObject | None],
        *,
        subresource: str = "",
    ) -> bool:
        """Merge-patch an object, if it is still as it was when the change was made.

        Args:
            collection: Where it is.
            obj: Which it is.
            change: Makes the change from the object as it is now; None for nothing to change.
            subresource: ``status`` where the kind has one.

        Returns:
            Whether it was changed: not if there was nothing to change, or the object is gone.

        Raises:
            ClusterError: If trying again cannot help.
        """
        path = collection.path(obj)
        where = f"{path}/{subresource}" if subresource else path

        async def attempt() -> bool | None:
            seen = self._cache.get(collection, objects.namespace(obj), objects.name(obj))
            if seen is None or objects.uid(seen) != objects.uid(obj):
                return False
            wanted = change(seen)
            if wanted is None:
                return False
            version = {"resourceVersion": objects.version(seen)}
            body = {**wanted, "metadata": {**wanted.get("metadata", {}), **version}}
            try:
                self._cache.learn(collection, await self._client.patch(where, body))
            except StatusError as error:
                if error.status not in (CONFLICT, NOT_FOUND):
                    raise
                await self._cache.look(collection, seen)
                return None
            return True

        changed = None
        while changed is None:
            changed = await self._insist(attempt)
        return changed

    async def delete_now(self, collection: Collection, obj: JsonObject) -> None:
        """Delete an object that has ended, without grace.

        Raises:
            ClusterError: If trying again cannot help.
        """
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": objects.uid(obj)}}

        async def attempt() -> None:
            try:
                await self._client.delete(collection.path(obj), options=options)
            except StatusError as error:
                if error.status not in (CONFLICT, NOT_FOUND):
                    raise

        await self._insist(attempt)

    async def look_around(self, collection: Collection) -> None:
        """Let the cache learn all objects of a collection, whatever its watch has told.

        Raises:
            ClusterError: If trying again cannot help.
        """
        await self._insist(lambda: self._cache.look_around(collection))

    async def _insist(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        delays = exponential_backoff()
        while True:
            try:
                return await attempt()
            except ClusterError as error:
                if not error.retryable:
                    raise
                delay_s = next(delays)
                logger.warning("%s; trying again in %.1f s", error, delay_s)
                await self._clock.sleep(delay_s)
