"""What a request asks for: verb, resource and name, taken from method and path.

Source: k8s.io/apiserver/pkg/endpoints/request/requestinfo.go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_VERBS: Final = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}
_NAMESPACE_SUBRESOURCES: Final = ("status", "finalize")
_NAME_FIELD: Final = re.compile(r"(?:^|,)metadata\.name==?([^,]+)")


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """A request, as authorization and routing see it.

    Attributes:
        verb: Verb on a resource (``list``, ``watch``...), or the method in lower case.
        path: The path, without query.
        group: API group; empty for the core, and for what is no resource.
        version: API version; empty for what is no resource.
        namespace: Empty at cluster scope.
        resource: Plural; empty for what is no resource.
        subresource: Empty for the resource itself.
        name: Name of the object; for lists the one that a field selector asks for.
        rest: What comes after the subresource.
    """

    verb: str
    path: str
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    rest: tuple[str, ...] = ()

    @property
    def is_resource(self) -> bool:
        """Whether it is about a resource, and not about a path such as ``/version``."""
        return bool(self.resource)

    @classmethod
    def parse(cls, method: str, path: str, query: Mapping[str, str]) -> RequestInfo:
        """Take a request apart."""
        plain = cls(method.lower(), path)
        parts = [part for part in path.split("/") if part]
        match parts:
            case ["api", version, *rest] if rest:
                group = ""
            case ["apis", group, version, *rest] if rest:
                pass
            case _:
                return plain
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 1:
            namespace = rest[1]
            if len(rest) > 2 and rest[2] not in _NAMESPACE_SUBRESOURCES:
                rest = rest[2:]
        resource, name, subresource, *more = [*rest, "", "", ""][: max(3, len(rest))]
        verb = _VERBS.get(method, "")
        if not name:
            if verb == "get":
                verb = "watch" if is_true(query.get("watch", "")) else "list"
            elif verb == "delete":
                verb = "deletecollection"
            if found := _NAME_FIELD.search(query.get("fieldSelector", "")):
                name = found[1]
        return cls(verb, path, group, version, namespace, resource, subresource, name, tuple(more))


def is_true(text: str) -> bool:
    """Return whether a query parameter says yes."""
    return text.lower() in ("1", "true", "t")
