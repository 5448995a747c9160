"""The lab's users and their rights: the same names and abilities as a real cluster's.

Sources: Kubernetes' bootstrap roles and KubeVirt's aggregated cluster roles, as far as they
speak of resources that the lab has; docs/facts/kubevirt.md, "Rights".
"""

from __future__ import annotations

from typing import Final

from .rbac import MASTERS, Binding, Role, Rule, SubjectKind

KUBEVIRT: Final = "kubevirt"
"""The namespace of KubeVirt's own components."""

DEMO: Final = "demo"
"""The namespace in which ``alice`` may edit and ``viewer`` may look."""

ANONYMOUS: Final = "system:anonymous"
UNAUTHENTICATED: Final = "system:unauthenticated"
AUTHENTICATED: Final = "system:authenticated"

CONTROLLER: Final = "kubevirt-controller"
"""Service account of the lab's controllers."""

HANDLER: Final = "kubevirt-handler"
"""Service account of the lab's nodes: what kubelet and virt-handler do."""

PEOPLE: Final[dict[str, tuple[str, ...]]] = {
    "admin": (MASTERS,),
    "alice": (),
    "viewer": (),
    "nobody": (),
}
"""Groups by user."""


def service_account(name: str) -> str:
    """Return the user name of one of KubeVirt's service accounts."""
    return f"system:serviceaccount:{KUBEVIRT}:{name}"


def service_account_groups(namespace: str) -> tuple[str, ...]:
    """Return the groups that all service accounts of a namespace are in."""
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")


ACCOUNTS: Final = {
    service_account(name): service_account_groups(KUBEVIRT) for name in (CONTROLLER, HANDLER)
}
"""Groups by user, for the components."""

_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "delete", "deletecollection", "patch", "update")

_STREAMS: Final = (
    "virtualmachineinstances/console",
    "virtualmachineinstances/portforward",
    "virtualmachineinstances/usbredir",
    "virtualmachineinstances/vnc",
)
_VM_RESOURCES: Final = ("virtualmachines", "virtualmachineinstances")
_MIGRATIONS: Final = ("virtualmachineinstancemigrations",)

_VIEW: Final = (
    Rule(_READ, ("",), ("configmaps", "events", "namespaces", "pods", "pods/log", "pods/status")),
    Rule(_READ, ("kubevirt.io",), (*_VM_RESOURCES, *_MIGRATIONS)),
    Rule(("get", "list"), ("kubevirt.io",), ("kubevirts",)),
    Rule(("get",), ("subresources.kubevirt.io",), ("virtualmachineinstances/guestosinfo",)),
)
_EDIT: Final = (
    *_VIEW,
    Rule(_READ, ("",), ("secrets",)),
    Rule(_WRITE, ("",), ("configmaps", "events", "pods", "secrets")),
    Rule((*_READ, *_WRITE), ("",), ("pods/attach", "pods/exec", "pods/portforward")),
    Rule(("impersonate",), ("",), ("serviceaccounts",)),
    Rule((*_READ, *_WRITE), ("coordination.k8s.io",), ("leases",)),
    Rule(("create", "delete", "patch", "update"), ("kubevirt.io",), _VM_RESOURCES),
    Rule(("get",), ("subresources.kubevirt.io",), _STREAMS),
    Rule(
        ("update",),
        ("subresources.kubevirt.io",),
        ("virtualmachines/restart", "virtualmachines/start", "virtualmachines/stop"),
    ),
)
_COMPONENT: Final = (
    Rule(
        ("*",),
        ("",),
        (
            "configmaps", "events", "namespaces", "nodes", "nodes/status",
            "pods", "pods/binding", "pods/status", "secrets",
        ),
    ),
    Rule(("*",), ("coordination.k8s.io",), ("leases",)),
    Rule(
        ("*",),
        ("kubevirt.io",),
        (
            *_VM_RESOURCES, "virtualmachines/status", *_MIGRATIONS,
            "virtualmachineinstancemigrations/status", "kubevirts", "kubevirts/status",
        ),
    ),
)  # fmt: skip

VIEW: Final = Role("view", _VIEW)
EDIT: Final = Role("edit", _EDIT)
MIGRATE: Final = Role(
    "kubevirt.io:migrate",
    (
        Rule(("update",), ("subresources.kubevirt.io",), ("virtualmachines/migrate",)),
        Rule((*_READ, *_WRITE), ("kubevirt.io",), _MIGRATIONS),
    ),
)
"""Bound to nobody, as in a fresh KubeVirt: only the masters may migrate."""

COMPONENT: Final = Role("lab:component", _COMPONENT)
_DISCOVERY: Final = Role(
    "system:discovery",
    (
        Rule(
            ("get",),
            paths=(
                "/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez",
                "/openapi", "/openapi/*", "/readyz", "/version", "/version/",
            ),
        ),
    ),
)  # fmt: skip
_PUBLIC_INFO: Final = Role(
    "system:public-info-viewer",
    (Rule(("get",), paths=("/healthz", "/livez", "/readyz", "/version", "/version/")),),
)
_BASIC_USER: Final = Role(
    "system:basic-user",
    (
        Rule(
            ("create",),
            ("authorization.k8s.io",),
            ("selfsubjectaccessreviews", "selfsubjectrulesreviews"),
        ),
        Rule(("create",), ("authentication.k8s.io",), ("selfsubjectreviews",)),
    ),
)
_KUBEVIRT_DEFAULT: Final = Role(
    "kubevirt.io:default",
    (
        Rule(("get", "list"), ("kubevirt.io",), ("kubevirts",)),
        Rule(("get", "list"), ("subresources.kubevirt.io",), ("version", "guestfs")),
    ),
)


def default_bindings() -> tuple[Binding, ...]:
    """Return the bindings of a fresh lab."""
    group, user = SubjectKind.GROUP, SubjectKind.USER
    return (
        Binding("system:discovery", _DISCOVERY, group, AUTHENTICATED),
        Binding("system:public-info-viewer", _PUBLIC_INFO, group, AUTHENTICATED),
        Binding("system:public-info-viewer", _PUBLIC_INFO, group, UNAUTHENTICATED),
        Binding("system:basic-user", _BASIC_USER, group, AUTHENTICATED),
        Binding("kubevirt.io:default", _KUBEVIRT_DEFAULT, group, AUTHENTICATED),
        Binding("alice", EDIT, user, "alice", DEMO),
        Binding("viewer", VIEW, user, "viewer", DEMO),
        *(Binding(name, COMPONENT, user, name) for name in ACCOUNTS),
    )
