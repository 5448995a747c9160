"""Watches: the ring of changes as a stream of events.

Source: k8s.io/apiserver/pkg/storage/cacher; event order and bookmarks measured on
kube-apiserver 1.36.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from .negotiation import Accepted, Form, base_headers
from .objects import Json, metadata, to_wire
from .requests import is_true
from .status import FieldError, Refusal, Subject, bad_request, expired, invalid
from .store import Change, ChangeKind, Store, TooOldError
from .tables import definitions, partial, row, table

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from .resources import Resource
    from .selectors import Selection

BOOKMARK_INTERVAL_S: Final = 60.0
LAST_BOOKMARK_S: Final = 2.0
"""So long before the end comes the last one."""
DEFAULT_TIMEOUT_S: Final = 1800.0
"""How long a watch lasts whose client names no timeout (--min-request-timeout)."""

_INITIAL_EVENTS_END: Final = {"k8s.io/initial-events-end": "true"}


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """metav1.ListOptions of a watch.

    Attributes:
        version: ``resourceVersion``; 0 for "start with all that exists".
        bookmarks: Whether the client takes bookmarks.
        timeout_s: When the stream ends.
        initial_events: Whether the client asked for the end of the initial events to be told.
    """

    version: int
    bookmarks: bool
    timeout_s: float
    initial_events: bool

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> WatchOptions:
        """Read the query of a watch.

        Raises:
            Refusal: If it makes no sense.
        """
        version = query.get("resourceVersion") or "0"
        if not version.isdecimal():
            raise Refusal(
                500,
                "",
                f'resourceVersion: Invalid value: "{version}": strconv.ParseUint: parsing '
                f'"{version}": invalid syntax',
            )
        timeout = query.get("timeoutSeconds") or "0"
        if not timeout.isdecimal():
            raise bad_request(f'strconv.ParseInt: parsing "{timeout}": invalid syntax')
        initial = is_true(query.get("sendInitialEvents", ""))
        if initial and query.get("resourceVersionMatch") != "NotOlderThan":
            error = FieldError(
                "resourceVersionMatch",
                "Forbidden: sendInitialEvents requires setting resourceVersionMatch to "
                "NotOlderThan",
                "FieldValueForbidden",
            )
            raise invalid(Subject("meta.k8s.io", "ListOptions"), "", [error])
        return cls(
            version=0 if initial else int(version),
            bookmarks=is_true(query.get("allowWatchBookmarks", "")),
            timeout_s=float(timeout) or DEFAULT_TIMEOUT_S,
            # An empty resourceVersion with bookmarks is taken for the same wish.
            initial_events=initial or not query.get("resourceVersion"),
        )


@dataclass(frozen=True, slots=True)
class Scope:
    """What a watch is about.

    Attributes:
        resource: Type of the objects.
        namespace: Their namespace; empty for all.
        selection: Which of them.
    """

    resource: Resource
    namespace: str
    selection: Selection

    def covers(self, obj: Json) -> bool:
        """Return whether an object is one of them."""
        if self.namespace and metadata(obj).get("namespace") != self.namespace:
            return False
        return self.selection.matches(obj)


async def events(store: Store, scope: Scope, options: WatchOptions) -> AsyncGenerator[Json, None]:
    """Yield watch events until the timeout of the options; the last may be an ERROR."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + options.timeout_s
    last_bookmark_at = ends_at - LAST_BOOKMARK_S
    bookmark_at = min(loop.time() + BOOKMARK_INTERVAL_S, last_bookmark_at)
    version = options.version
    if version == 0:
        version = store.version
        for obj in store.list(scope.resource, scope.namespace):
            if scope.covers(obj):
                yield {"type": ChangeKind.ADDED, "object": obj}
        if options.bookmarks and options.initial_events:
            yield _bookmark(scope.resource, version, _INITIAL_EVENTS_END)
    while True:
        changed = store.changed
        try:
            changes = store.changes_since(version)
        except TooOldError as error:
            async for event in gone(version, error.oldest):
                yield event
            return
        for change in changes:
            version = change.version
            if (seen := _event(scope, change)) is not None:
                yield seen
        now = loop.time()
        if now >= bookmark_at:
            if options.bookmarks and options.timeout_s > LAST_BOOKMARK_S:
                yield _bookmark(scope.resource, version)
            bookmark_at = now + BOOKMARK_INTERVAL_S
            if now < last_bookmark_at:
                bookmark_at = min(bookmark_at, last_bookmark_at)
        if now >= ends_at:
            return
        try:
            async with asyncio.timeout_at(min(bookmark_at, ends_at)):
                await changed.wait()
        except TimeoutError:
            continue


def _event(scope: Scope, change: Change) -> Json | None:
    """Return what a change is to a watcher: an object may come into sight, or leave it."""
    if change.resource is not scope.resource:
        return None
    before = change.before is not None and scope.covers(change.before)
    after = change.kind is not ChangeKind.DELETED and scope.covers(change.obj)
    match before, after:
        case False, False:
            return None
        case False, True:
            kind = ChangeKind.ADDED
        case True, True:
            kind = ChangeKind.MODIFIED
        case _:
            return {"type": ChangeKind.DELETED, "object": _last_seen(change)}
    return {"type": kind, "object": change.obj}


def _last_seen(change: Change) -> Json:
    """Return an object as it was before it left, with the version of its leaving."""
    assert change.before is not None
    version = {"resourceVersion": str(change.version)}
    return {**change.before, "metadata": {**metadata(change.before), **version}}


def _bookmark(resource: Resource, version: int, annotations: Json | None = None) -> Json:
    meta: Json = {"resourceVersion": str(version)}
    if annotations:
        meta["annotations"] = annotations
    obj = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": meta}
    return {"type": "BOOKMARK", "object": obj}


async def gone(version: int, oldest: int) -> AsyncGenerator[Json, None]:
    """Yield what a watch from too old a version is: one ERROR."""
    yield {"type": "ERROR", "object": expired(str(TooOldError(version, oldest))).status()}


async def stream(
    request: web.BaseRequest,
    source: AsyncGenerator[Json, None],
    resource: Resource,
    accepted: Accepted,
) -> web.StreamResponse:
    """Answer a watch with the events of ``source``; returns when there are no more."""
    headers = {**base_headers(), "Content-Type": "application/json"}
    response = web.StreamResponse(headers=headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    first = True
    async with aclosing(source):
        async for event in source:
            shown = event
            if event["type"] != "ERROR":
                obj = _in_form(accepted, resource, event["object"], first=first)
                shown = {"type": event["type"], "object": obj}
                first = False
            await response.write((to_wire(shown) + "\n").encode())
    await response.write_eof()
    return response


def _in_form(accepted: Accepted, resource: Resource, obj: Json, *, first: bool) -> Json:
    match accepted.form:
        case Form.PLAIN:
            return obj
        case Form.METADATA:
            return partial(obj)
        case Form.TABLE:
            # The columns are told once, with the first event.
            titles = definitions(resource) if first else None
            return table(
                metadata(obj)["resourceVersion"], titles, [row(resource, obj, accepted.include)]
            )
