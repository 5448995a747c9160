"""Handlers of resources: list, watch, get, create, update, patch, delete."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import negotiation, patches, watch
from .binding import bind
from .bodies import decode_object, go_error, read_body, read_object
from .faults import Faults, WatchFault
from .negotiation import Accepted, Form
from .registry import Registry, success
from .resources import BY_PATH, NAMESPACES, PODS, Resource, Target
from .selectors import Selection
from .status import (
    bad_request,
    expired,
    method_not_allowed,
    no_such_resource,
    not_found,
    unsupported_media_type,
    version_too_large,
)
from .store import Key, Store, TooOldError, key_of
from .validation import DeleteOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from .objects import Json
    from .rbac import User
    from .requests import RequestInfo

_START: Final = ("", "")
"""Comes before the keys of all objects."""

_APPLY: Final = "application/apply-patch+yaml"
"""Server-side apply: named among what is accepted, as by the real one, but not served."""

_LIST_EXPIRED: Final = (
    "The provided continue parameter is too old to display a consistent list result. You can "
    "start a new list without the continue parameter."
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was authenticated, authorized and understood."""

    request: web.BaseRequest
    info: RequestInfo
    user: User


class Rest:
    """Serves the resources of :data:`.resources.RESOURCES`.

    Args:
        store: The objects.
        registry: Writes them.
        faults: What goes wrong.
    """

    def __init__(self, store: Store, registry: Registry, faults: Faults) -> None:
        self._store = store
        self._registry = registry
        self._faults = faults

    async def handle(self, call: Call) -> web.StreamResponse:
        """Carry a request out.

        Raises:
            Refusal: If it is refused before anything was sent.
        """
        info = call.info
        resource = BY_PATH.get((info.group, info.version, info.resource))
        if resource is None:
            raise no_such_resource()
        if resource is PODS and info.subresource == "binding" and info.verb == "create":
            return await self._bind(call)
        _check_route(info, resource)
        query = call.request.query
        if "dryRun" in query:
            raise bad_request("the dryRun feature is disabled")
        accepted = Accepted.parse(
            call.request.headers.get("Accept", ""), query.get("includeObject", "")
        )
        match info.verb:
            case "watch":
                return await self._watch(call, resource, accepted)
            case "list":
                answer = self._list(call, resource, accepted)
            case "get":
                answer = self._get(call, resource, accepted)
            case "create":
                return await self._create(call, resource, accepted)
            case "update" | "patch":
                answer = await self._change(call, resource, accepted)
            case "delete":
                answer = await self._delete(call, resource)
            case "deletecollection":
                answer = await self._delete_all(call, resource, accepted)
            case _:
                raise method_not_allowed()
        return negotiation.respond(call.request, answer, as_yaml=accepted.yaml)

    def _selection(self, call: Call, resource: Resource) -> Selection:
        query = call.request.query
        return Selection.parse(
            resource, query.get("labelSelector", ""), query.get("fieldSelector", "")
        )

    def _get(self, call: Call, resource: Resource, accepted: Accepted) -> Json:
        obj = self._registry.get(_target(call.info, resource))
        return negotiation.one(accepted, resource, obj)

    def _list(self, call: Call, resource: Resource, accepted: Accepted) -> Json:
        selection = self._selection(call, resource)
        page = _Page.parse(call.request.query, self._store.version)
        try:
            objects = self._store.list(resource, call.info.namespace, at=page.version)
        except TooOldError as error:
            text = _LIST_EXPIRED if page.after != _START else str(error)
            raise expired(text) from error
        chosen = [obj for obj in objects if key_of(obj) > page.after and selection.matches(obj)]
        meta: Json = {"resourceVersion": str(page.version)}
        if page.limit and len(chosen) > page.limit:
            meta["continue"] = page.token(chosen[page.limit - 1])
            if selection == Selection():
                meta["remainingItemCount"] = len(chosen) - page.limit
            chosen = chosen[: page.limit]
        elif resource.custom and accepted.form is Form.PLAIN:
            meta["continue"] = ""
        return negotiation.many(accepted, resource, chosen, meta)

    async def _watch(
        self, call: Call, resource: Resource, accepted: Accepted
    ) -> web.StreamResponse:
        scope = watch.Scope(resource, call.info.namespace, self._selection(call, resource))
        options = watch.WatchOptions.parse(call.request.query)
        source = watch.events(self._store, scope, options)
        if options.version and self._faults.watches:
            current = self._store.version
            match self._faults.watches.popleft():
                case WatchFault.GONE_STATUS:
                    raise expired(str(TooOldError(options.version, current)))
                case WatchFault.GONE_EVENT:
                    source = watch.gone(options.version, current)
        return await watch.stream(call.request, source, resource, accepted)

    async def _create(
        self, call: Call, resource: Resource, accepted: Accepted
    ) -> web.StreamResponse:
        body = await read_object(call.request, resource.kind)
        obj = self._registry.create(_target(call.info, resource), body, call.user)
        answer = negotiation.one(accepted, resource, obj)
        return negotiation.respond(call.request, answer, 201, as_yaml=accepted.yaml)

    async def _bind(self, call: Call) -> web.StreamResponse:
        """Give a pod its node, as a scheduler asks for it."""
        binding = await read_object(call.request, "Binding")
        bind(self._store, call.info.namespace, call.info.name, binding)
        done = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return negotiation.respond(call.request, {**done, "code": 201}, 201)

    async def _change(self, call: Call, resource: Resource, accepted: Accepted) -> Json:
        target = _target(call.info, resource)
        if not target.name:
            raise bad_request("name must be provided")
        if call.info.verb == "update":
            body = await read_object(call.request, resource.kind)
            obj = self._registry.update(target, body, call.user)
        else:
            media_type = call.request.content_type
            known = [patches.JSON_PATCH, patches.MERGE]
            if not resource.custom:
                known.append(patches.STRATEGIC)
            if media_type not in known:
                raise unsupported_media_type([*known, _APPLY])
            change = patches.Patch(media_type, await read_body(call.request))
            obj = self._registry.patch(target, change, call.user)
        return negotiation.one(accepted, resource, obj)

    async def _delete(self, call: Call, resource: Resource) -> Json:
        options = await self._delete_options(call)
        obj, gone = self._registry.delete(_target(call.info, resource), options)
        # Pods end gracefully, and are shown as they were.
        return success(resource, obj) if gone and resource is not PODS else obj

    async def _delete_all(self, call: Call, resource: Resource, accepted: Accepted) -> Json:
        if resource is NAMESPACES:
            raise method_not_allowed()
        options = await self._delete_options(call)
        selection = self._selection(call, resource)
        version = self._store.version
        objects = [
            obj for obj in self._store.list(resource, call.info.namespace) if selection.matches(obj)
        ]
        for obj in objects:
            self._registry.delete(Target(resource, *key_of(obj)), options)
        return negotiation.many(accepted, resource, objects, {"resourceVersion": str(version)})

    async def _delete_options(self, call: Call) -> DeleteOptions:
        body = await read_body(call.request)
        options = decode_object(body, call.request.content_type, "DeleteOptions") if body else {}
        return DeleteOptions.parse(options, call.request.query.get("gracePeriodSeconds", ""))


@dataclass(frozen=True, slots=True)
class _Page:
    """Which part of a list is asked for."""

    version: int
    limit: int
    after: Key

    @classmethod
    def parse(cls, query: Mapping[str, str], current: int) -> _Page:
        limit = query.get("limit") or "0"
        if not limit.isdecimal():
            raise bad_request(f'strconv.ParseInt: parsing "{limit}": invalid syntax')
        if token := query.get("continue"):
            version, after = _read_token(token)
            return cls(version, int(limit), after)
        asked = query.get("resourceVersion") or "0"
        if not asked.isdecimal():
            raise bad_request(
                f'invalid resource version: resourceVersion: Invalid value: "{asked}": '
                f'strconv.ParseUint: parsing "{asked}": invalid syntax'
            )
        if int(asked) > current:
            raise version_too_large(int(asked), current)
        exact = query.get("resourceVersionMatch") == "Exact"
        return cls(int(asked) if exact else current, int(limit), _START)

    def token(self, last: Json) -> str:
        """Return the ``continue`` after an object, in the form of the real one."""
        start = "/".join(filter(None, key_of(last))) + "\0"
        body = {"v": "meta.k8s.io/v1", "rv": self.version, "start": start}
        return base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, Key]:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        body = json.loads(raw.decode("latin-1"))
        namespace, _, name = body["start"].rstrip("\0").rpartition("/")
        return int(body["rv"]), (namespace, name)
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise bad_request(
            f"invalid continue token: continue key is not valid: {go_error(exc)}"
        ) from exc


def _check_route(info: RequestInfo, resource: Resource) -> None:
    """Check that there is such a path, and that it takes the verb.

    Raises:
        Refusal: 404 or 405.
    """
    if info.subresource:
        if info.subresource != "status" or not resource.has_status:
            raise not_found(resource.subject, info.name) if resource.custom else no_such_resource()
        if info.verb not in ("get", "patch", "update"):
            raise method_not_allowed()
    if resource.namespaced and not info.namespace and info.verb not in ("list", "watch"):
        raise method_not_allowed()
    if not resource.namespaced and info.namespace and resource is not NAMESPACES:
        raise no_such_resource()


def _target(info: RequestInfo, resource: Resource) -> Target:
    """Return what a request is about; a resource at cluster scope is in no namespace."""
    namespace = info.namespace if resource.namespaced else ""
    return Target(resource, namespace, info.name, info.subresource)
