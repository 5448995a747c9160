"""Role-based access control: rules as data, and the answer to "may this user do that".

Source: k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac; only the objects' plumbing is
missing, since the lab's roles are not served as resources.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .requests import RequestInfo

MASTERS: Final = "system:masters"
"""Members of this group may do everything, without any role."""


@dataclass(frozen=True, slots=True)
class User:
    """Who sends a request.

    Attributes:
        name: User name.
        uid: Empty for none.
        groups: All groups, the built-in ones included.
        extra: What else is known about it.
    """

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    """Some verbs on some resources, or on some paths. ``*`` means all."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def allows(self, request: RequestInfo) -> bool:
        """Return whether the request is one of those."""
        if "*" not in self.verbs and request.verb not in self.verbs:
            return False
        if not request.is_resource:
            return any(_path_matches(path, request.path) for path in self.paths)
        wanted = request.resource
        if request.subresource:
            wanted += f"/{request.subresource}"
        return (
            ("*" in self.groups or request.group in self.groups)
            and (
                "*" in self.resources
                or wanted in self.resources
                or (bool(request.subresource) and f"*/{request.subresource}" in self.resources)
            )
            and (not self.names or request.name in self.names)
        )


def _path_matches(rule: str, path: str) -> bool:
    return path.startswith(rule[:-1]) if rule.endswith("*") else path == rule


@dataclass(frozen=True, slots=True)
class Role:
    """A named set of rules."""

    name: str
    rules: tuple[Rule, ...]


class SubjectKind(enum.StrEnum):
    """What a binding can name."""

    USER = "User"
    GROUP = "Group"


@dataclass(frozen=True, slots=True)
class Binding:
    """Gives a role to a user or group, in one namespace or everywhere (empty)."""

    name: str
    role: Role
    kind: SubjectKind
    subject: str
    namespace: str = ""

    def covers(self, user: User, namespace: str) -> bool:
        """Return whether it says anything about the user there."""
        if self.namespace and self.namespace != namespace:
            return False
        return (
            self.subject == user.name
            if self.kind is SubjectKind.USER
            else (self.subject in user.groups)
        )

    @property
    def reason(self) -> str:
        """The sentence that a SubjectAccessReview gives."""
        where = f"{self.name}/{self.namespace}" if self.namespace else self.name
        kind = "RoleBinding" if self.namespace else "ClusterRoleBinding"
        return (
            f'RBAC: allowed by {kind} "{where}" of ClusterRole "{self.role.name}" '
            f'to {self.kind} "{self.subject}"'
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, and why it is yes."""

    allowed: bool
    reason: str = ""


class Rbac:
    """All bindings of the cluster; the list may be changed at any time."""

    def __init__(self, bindings: Iterable[Binding]) -> None:
        self.bindings = list(bindings)

    def decide(self, user: User, request: RequestInfo) -> Decision:
        """Return whether the user may do it."""
        if MASTERS in user.groups:
            return Decision(allowed=True)
        for binding in self._about(user, request.namespace):
            if any(rule.allows(request) for rule in binding.role.rules):
                return Decision(allowed=True, reason=binding.reason)
        return Decision(allowed=False)

    def _about(self, user: User, namespace: str) -> Iterator[Binding]:
        return (each for each in self.bindings if each.covers(user, namespace))


def describe(user: User, request: RequestInfo) -> str:
    """Return the real one's sentence for what the user may not do."""
    if not request.is_resource:
        return f'User "{user.name}" cannot {request.verb} path "{request.path}"'
    resource = request.resource
    if request.subresource:
        resource += f"/{request.subresource}"
    where = (
        f'in the namespace "{request.namespace}"' if request.namespace else ("at the cluster scope")
    )
    return (
        f'User "{user.name}" cannot {request.verb} resource "{resource}" '
        f'in API group "{request.group}" {where}'
    )
