"""What the server tells about itself: versions, groups, resources, OpenAPI, health."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from . import negotiation
from .negotiation import base_headers, respond
from .objects import Json, to_wire
from .resources import (
    RESOURCES,
    SUBRESOURCES,
    SUBRESOURCES_LISTED,
    SUBRESOURCES_VERSIONS,
    Resource,
)
from .status import method_not_allowed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

VERSION: Final = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.3-lab",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}

_REVIEWS: Final = {
    ("authentication.k8s.io", "v1"): ("SelfSubjectReview",),
    ("authorization.k8s.io", "v1"): ("SelfSubjectAccessReview",),
}
_HEALTH: Final = ("/healthz", "/livez", "/readyz")


def _groups() -> dict[str, list[str]]:
    """Return the versions of each named group, the preferred one first."""
    found: dict[str, list[str]] = {}
    pairs = [(each.group, each.version) for each in RESOURCES if each.group]
    for group, version in [*_REVIEWS, *dict.fromkeys(pairs)]:
        found.setdefault(group, []).append(version)
    return found | {SUBRESOURCES: list(SUBRESOURCES_VERSIONS)}


def _group(name: str, versions: Sequence[str]) -> Json:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _entries(resource: Resource) -> list[Json]:
    entry: Json = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    if not resource.has_status:
        return [entry]
    status = {
        "name": f"{resource.plural}/status",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": ["get", "patch", "update"],
    }
    return [entry, status]


def _resource_list(group: str, version: str) -> Json | None:
    """Return the APIResourceList of a group and version; None if there is no such."""
    entries = [
        entry
        for each in RESOURCES
        if (each.group, each.version) == (group, version)
        for entry in _entries(each)
    ]
    entries += [
        {
            "name": f"{kind.lower()}s",
            "singularName": kind.lower(),
            "namespaced": False,
            "kind": kind,
            "verbs": ["create"],
        }
        for kind in _REVIEWS.get((group, version), ())
    ]
    if group == SUBRESOURCES and version in SUBRESOURCES_VERSIONS:
        entries += [
            # virt-api names neither kind nor verbs.
            {"name": name, "singularName": "", "namespaced": True, "kind": "", "verbs": None}
            for name in SUBRESOURCES_LISTED
        ]
    if not entries:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": entries,
    }


def _openapi(group: str, version: str) -> Json:
    """Return as much of OpenAPI as kubectl needs to leave the validation to the server.

    It looks for a PATCH of the kind with the query parameter fieldValidation.
    """
    paths: Json = {}
    for resource in RESOURCES:
        if (resource.group, resource.version) != (group, version):
            continue
        root = f"/apis/{group}/{version}" if group else f"/api/{version}"
        scope = "/namespaces/{namespace}" if resource.namespaced else ""
        paths[f"{root}{scope}/{resource.plural}/{{name}}"] = {
            "patch": {
                "parameters": [
                    {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
                ],
                "responses": {"200": {"description": "OK"}},
                "x-kubernetes-group-version-kind": {
                    "group": group,
                    "version": version,
                    "kind": resource.kind,
                },
            }
        }
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION["gitVersion"]},
        "paths": paths,
    }


def _openapi_index() -> Json:
    paths = {}
    for group, version in dict.fromkeys((each.group, each.version) for each in RESOURCES):
        path = f"apis/{group}/{version}" if group else f"api/{version}"
        digest = hashlib.sha256(to_wire(_openapi(group, version)).encode()).hexdigest()
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": paths}


def _text(text: str, code: int = 200) -> web.Response:
    headers = {**base_headers(), "X-Content-Type-Options": "nosniff"}
    return negotiation.answer(text, "text/plain; charset=utf-8", code, headers)


def handle(request: web.BaseRequest) -> web.Response:
    """Answer a request that is about no resource.

    Raises:
        Refusal: 405.
    """
    if request.method not in ("GET", "HEAD"):
        raise method_not_allowed()
    parts = [part for part in request.path.split("/") if part]
    answer: Json | None = None
    match parts:
        case []:
            answer = {"paths": ["/api", "/api/v1", "/apis", *_HEALTH, "/openapi/v3", "/version"]}
        case ["version"]:
            # The real one indents it for everybody.
            text = to_wire(VERSION, indent=2)
            return negotiation.answer(text, "application/json", headers=base_headers())
        case ["healthz" | "livez" | "readyz"]:
            return _text("ok")
        case ["api"]:
            address = request.headers.get("Host", "")
            answer = {
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [
                    {"clientCIDR": "0.0.0.0/0", "serverAddress": address}
                ],
            }
        case ["apis"]:
            listed = [_group(name, versions) for name, versions in _groups().items()]
            answer = {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        case ["apis", name] if name in _groups():
            answer = {"kind": "APIGroup", "apiVersion": "v1", **_group(name, _groups()[name])}
        case ["api", version]:
            answer = _resource_list("", version)
        case ["apis", group, version]:
            answer = _resource_list(group, version)
        case ["openapi", "v3"]:
            answer = _openapi_index()
        case ["openapi", "v3", "api", version]:
            answer = _openapi("", version)
        case ["openapi", "v3", "apis", group, version]:
            answer = _openapi(group, version)
        case _:
            pass
    return _text("404 page not found\n", 404) if answer is None else respond(request, answer)
