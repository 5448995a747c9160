"""A small Kubernetes client: REST, lists in pages, watches.

It knows no kind and no group: callers give paths, and get decoded JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

import httpx

from kubectl_vmredir.backoff import exponential_backoff
from kubectl_vmredir.errors import ClusterError
from kubectl_vmredir.k8s.lists import Page
from kubectl_vmredir.k8s.objects import ListResult, metadata, printable, whole
from kubectl_vmredir.k8s.status import StatusError, unreachable
from kubectl_vmredir.k8s.transport import Transport, read_body
from kubectl_vmredir.k8s.watch import watch
from kubectl_vmredir.turns import in_turns

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from types import TracebackType

    from kubectl_vmredir.backoff import BackoffFactory
    from kubectl_vmredir.k8s.credentials import Credential
    from kubectl_vmredir.k8s.kubeconfig import ClusterConfig
    from kubectl_vmredir.k8s.objects import JsonObject, Keep, WatchEvent
    from kubectl_vmredir.k8s.transport import Access, Params

T = TypeVar("T")

logger = logging.getLogger(__name__)

MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
REQUEST_TIMEOUT_S: Final = 60.0
LONGEST_DELAY_S: Final = 5.0
"""Between two tries to watch: what is known is old meanwhile."""
_PAGE_SIZE: Final = 500


class KubeClient:
    """Talks to one API server as one user; an async context manager.

    Every method raises :class:`~kubectl_vmredir.errors.ClusterError`: what the server refuses is
    a :class:`~kubectl_vmredir.k8s.status.StatusError`, but LoginRequired for 401 and Forbidden
    for 403.

    Args:
        config: Which server, and who we are.
        backoff: Returns a fresh series of delays for watches, in seconds; None for up to 5 s.
    """

    def __init__(
        self,
        config: ClusterConfig,
        *,
        backoff: BackoffFactory | None = None,
    ) -> None:
        self.config = config
        self._backoff = backoff or partial(exponential_backoff, LONGEST_DELAY_S)
        self._transport = Transport(config)
        limit_s = config.request_timeout_s
        self._limit_s = REQUEST_TIMEOUT_S if limit_s is None else limit_s or None

    async def __aenter__(self) -> Self:
        if self.config.insecure:
            logger.warning("the certificate of %s is not checked", self.config.server)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._transport.aclose()

    async def get(self, path: str, params: Params | None = None) -> JsonObject:
        """GET an object."""
        return await self._request("GET", path, params=params)

    async def create(self, path: str, obj: JsonObject) -> JsonObject:
        """POST an object to a collection; return it as it was stored."""
        return await self._request("POST", path, body=obj)

    async def update(self, path: str, obj: JsonObject) -> JsonObject:
        """PUT an object; return it as it was stored."""
        return await self._request("PUT", path, body=obj)

    async def patch(
        self,
        path: str,
        change: JsonObject | Sequence[JsonObject],
        *,
        content_type: str = MERGE_PATCH,
    ) -> JsonObject:
        """PATCH an object; return it as it was stored."""
        return await self._request("PATCH", path, body=change, content_type=content_type)

    async def delete(self, path: str, options: JsonObject | None = None) -> JsonObject:
        """DELETE an object; return what the server says of it.

        Args:
            path: Path of the object.
            options: DeleteOptions, for instance with preconditions.
        """
        return await self._request("DELETE", path, body=options)

    async def list_all(self, path: str, params: Params | None = None) -> ListResult[JsonObject]:
        """List a collection, page by page; see :meth:`read_all`."""
        return await self.read_all(path, whole, params)

    async def read_all(
        self, path: str, read: Callable[[JsonObject], T], params: Params | None = None
    ) -> ListResult[T]:
        """List a collection, page by page, and keep what is read from each object.

        Should the list expire between two pages (410), it is asked for again, in one piece.

        Args:
            path: Path of the collection.
            read: Called once with each object, as it is decoded.
            params: Query.
        """
        try:
            return await self._list(path, {**(params or {}), "limit": _PAGE_SIZE}, read)
        except StatusError as error:
            if error.status != httpx.codes.GONE:
                raise
        return await self._list(path, params or {}, read)

    def watch(
        self, path: str, params: Params | None = None, keep: Keep = whole
    ) -> AsyncGenerator[WatchEvent, None]:
        """List a collection and watch it, for as long as the generator is open.

        All that exists comes first, as ADDED, then LISTED, then each change. A watch that ends is
        begun again by itself. LOST says that this fails; when it is made good, all that exists
        comes again, what vanished meanwhile as DELETED, then LISTED.

        Args:
            path: Path of the collection.
            params: Query.
            keep: Returns what is to be kept of an object, and told; its metadata.uid at least.

        Raises:
            ClusterError: While iterating, if the trouble cannot be cured by waiting.
        """
        return watch(self, self._transport, path, params or {}, keep, self._backoff)

    async def access(self) -> Access:
        """Return what a connection of another kind needs, with credentials as they are now."""
        return await self._transport.access()

    def reject(self, credential: Credential) -> bool:
        """Hear that the server refused a credential (401); say whether a fresh one may do."""
        return self._transport.reject(credential)

    async def _list(
        self, path: str, params: Params, read: Callable[[JsonObject], T]
    ) -> ListResult[T]:
        items: list[T] = []
        following = ""
        while True:
            body = await self._body(
                "GET", path, params={**params, "continue": following} if following else params
            )
            found = Page(body)
            try:
                async with aclosing(in_turns(found)) as decoded:
                    items += [read(item) async for item in decoded if isinstance(item, dict)]
            except ValueError as exc:
                raise _no_api_server(body, self.config.server) from exc
            if found.rest.get("items"):
                raise ClusterError(f"{path} is not a list")
            about = metadata(found.rest)
            following = str(about.get("continue") or "")
            if not following:
                return ListResult(items, str(about.get("resourceVersion") or ""))

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: JsonObject | Sequence[JsonObject] | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        answer = await self._body(method, path, params=params, body=body, content_type=content_type)
        return _decoded(answer, self.config.server)

    async def _body(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: JsonObject | Sequence[JsonObject] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        content = None if body is None else json.dumps(body).encode()
        try:
            async with (
                asyncio.timeout(self._limit_s),
                self._transport.send(
                    method, path, params=params, content=content, content_type=content_type
                ) as response,
            ):
                return await read_body(response)
        except (httpx.HTTPError, OSError) as exc:
            raise unreachable(exc, self.config.server) from exc


def _decoded(body: bytes, server: str) -> JsonObject:
    if not body:  # 202 and 204
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _no_api_server(body, server)
    return found


def _no_api_server(body: bytes, server: str) -> ClusterError:
    return ClusterError(
        f"{server} does not answer like an API server: "
        f"{printable(body[:80].decode(errors='replace'))!r}",
        hint="Is there a login page or a proxy in the way? Check the kubeconfig's server.",
    )
