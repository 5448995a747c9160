"""Lists a collection, watches it, and goes on whatever happens in between.

Source: Kubernetes API concepts, "Efficient detection of changes"; client-go,
tools/cache/reflector.go.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from typing import TYPE_CHECKING, Final

import httpx

from kubectl_vmredir.errors import ClusterError, ClusterUnreachable
from kubectl_vmredir.k8s.objects import EventType, WatchEvent, metadata
from kubectl_vmredir.k8s.patience import Patience
from kubectl_vmredir.k8s.status import StatusError, refusal_of, unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject, Keep
    from kubectl_vmredir.k8s.transport import Params, Transport

logger = logging.getLogger(__name__)

_SHORTEST_S: Final = 300
_LONGEST_S: Final = 600
"""The server is asked to end a watch after a time between the two, as client-go asks; to begin one
anew costs more than all else that an idle client does."""
_SILENCE_S: Final = 75.0
"""A watch that says nothing for so long is dead, and begun anew. A server tells the version each
minute, where nothing else happens (k8s.io/apiserver, cacher.go, defaultBookmarkFrequency); one that
does not is asked more often, and that is all."""
_HEAD_TIMEOUT_S: Final = 15.0
_STABLE_S: Final = 10.0
"""A watch that lasted this long has earned a fresh start; a shorter one has not."""
_MAX_EVENT_BYTES: Final = 16 << 20
"""etcd stores objects of up to 1.5 MiB."""


async def watch(
    client: KubeClient,
    transport: Transport,
    path: str,
    params: Params,
    keep: Keep,
    backoff: Callable[[], Iterator[float]],
) -> AsyncGenerator[WatchEvent, None]:
    """See :meth:`kubectl_vmredir.k8s.client.KubeClient.watch`."""
    loop = asyncio.get_running_loop()
    known = _Known()
    version = ""  # where to go on; empty: list first
    lost = False
    patience = Patience()
    delays = backoff()
    while True:
        opened_at: float | None = None
        trouble: ClusterError | None = None
        try:
            if not version:
                listed = await client.read_all(path, keep, params)
                for event in known.listed(listed.items):
                    yield event
                version, lost = listed.resource_version, False
            limit_s = random.randint(_SHORTEST_S, _LONGEST_S)  # noqa: S311 - spreads the load
            async with transport.send(
                "GET",
                path,
                params={
                    **params,
                    "watch": True,
                    "allowWatchBookmarks": True,
                    "resourceVersion": version,
                    "timeoutSeconds": limit_s,
                },
                head_timeout_s=_HEAD_TIMEOUT_S,
                read_timeout_s=_SILENCE_S,
            ) as response:
                opened_at = loop.time()
                patience.allowed()
                decoder = _Decoder()
                async for chunk in response.aiter_bytes():
                    for kind, item in decoder.feed(chunk):
                        version = str(metadata(item).get("resourceVersion") or version)
                        if kind is not None:
                            yield known.changed(kind, keep(item))
        except (httpx.HTTPError, OSError) as exc:
            trouble = unreachable(exc, transport.config.server)
        except ClusterError as error:
            version = ""
            if isinstance(error, StatusError) and error.status == httpx.codes.GONE:
                logger.debug("the watch of %s starts over: %s", path, error)
            else:
                trouble = patience.weigh(error)
                if not trouble.retryable:
                    raise
        if opened_at is not None and loop.time() - opened_at >= _STABLE_S:
            # Ends are normal: try at once, and say so only if that fails.
            delays = backoff()
            continue
        if trouble is not None:
            # A server that comes back takes up a watch before it knows what happened since: only
            # a list tells the truth.
            version = ""
            if not lost:
                logger.info("the watch of %s is lost: %s", path, trouble)
                lost = True
                yield WatchEvent(EventType.LOST, cause=trouble)
        await asyncio.sleep(next(delays))


class _Known:
    """What a watch has told, so that it can tell what vanished while it was away."""

    def __init__(self) -> None:
        self._objects: dict[str, JsonObject] = {}

    def listed(self, items: Sequence[JsonObject]) -> Iterator[WatchEvent]:
        """Tell what a fresh list holds, and what it no longer holds."""
        fresh = {_identity(item): item for item in items}
        before, self._objects = self._objects, fresh
        for identity in before.keys() - fresh.keys():
            yield WatchEvent(EventType.DELETED, before[identity])
        for identity, item in fresh.items():
            yield WatchEvent(EventType.MODIFIED if identity in before else EventType.ADDED, item)
        yield WatchEvent(EventType.LISTED)

    def changed(self, kind: EventType, item: JsonObject) -> WatchEvent:
        """Tell one change."""
        if kind is EventType.DELETED:
            self._objects.pop(_identity(item), None)
        else:
            self._objects[_identity(item)] = item
        return WatchEvent(kind, item)


def _identity(item: JsonObject) -> str:
    """Return what tells an object from a later one of the same name."""
    return str(metadata(item).get("uid"))


class _Decoder:
    """Takes the body of a watch apart: one JSON object a line."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[tuple[EventType | None, JsonObject]]:
        """Yield type and object of each event; None for a bookmark.

        Raises:
            ClusterError: If the server ends the watch with an ERROR event.
            ClusterUnreachable: If it is no watch what comes.
        """
        self._rest += chunk
        if len(self._rest) > _MAX_EVENT_BYTES:
            raise ClusterUnreachable("an event of a watch has no end")
        if b"\n" not in chunk:
            return
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            if line.strip():
                yield _event(bytes(line))


def _event(line: bytes) -> tuple[EventType | None, JsonObject]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    match found:
        case {"type": "ADDED" | "MODIFIED" | "DELETED" as kind, "object": dict(item)}:
            return EventType(kind), item
        case {"type": "BOOKMARK", "object": dict(item)}:
            return None, item
        case {"type": "ERROR", "object": dict(item)}:
            raise _refused(item)
        case _:
            raise ClusterUnreachable("what comes is not a watch")


def _refused(status: JsonObject) -> ClusterError:
    code, reason, message = status.get("code"), status.get("reason"), status.get("message")
    return refusal_of(
        code if isinstance(code, int) else httpx.codes.INTERNAL_SERVER_ERROR,
        str(reason or ""),
        str(message or "the watch ended with an error"),
    )
