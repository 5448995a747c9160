from __future__ import annotations

import pytest

from kubectl_vmredir.lab.api.auth import authenticated
from kubectl_vmredir.lab.api.rbac import (
    MASTERS,
    Binding,
    Rbac,
    Role,
    Rule,
    SubjectKind,
    User,
    describe,
)
from kubectl_vmredir.lab.api.requests import RequestInfo
from kubectl_vmredir.lab.api.roles import (
    ACCOUNTS,
    ANONYMOUS,
    CONTROLLER,
    MIGRATE,
    UNAUTHENTICATED,
    default_bindings,
    service_account,
)

ALICE, VIEWER, NOBODY = (authenticated(name) for name in ("alice", "viewer", "nobody"))
ADMIN = authenticated("admin", (MASTERS,))
STREAMS = "subresources.kubevirt.io"


def ask(
    verb: str, group: str, resource: str, subresource: str = "", namespace: str = "demo"
) -> RequestInfo:
    return RequestInfo(verb, "", group, "v1", namespace, resource, subresource)


# Measured on a real cluster: docs/facts/kubevirt.md, "Rights", and SelfSubjectAccessReviews.
RIGHTS = [
    (ask("get", STREAMS, "virtualmachineinstances", "usbredir"), {"alice"}),
    (ask("get", STREAMS, "virtualmachineinstances", "vnc"), {"alice"}),
    (ask("get", STREAMS, "virtualmachineinstances", "console"), {"alice"}),
    (ask("update", STREAMS, "virtualmachines", "migrate"), set()),
    (ask("get", STREAMS, "virtualmachineinstances", "usbredir", "kubevirt"), set()),
    (ask("list", "kubevirt.io", "virtualmachineinstances"), {"alice", "viewer"}),
    (ask("watch", "kubevirt.io", "virtualmachineinstancemigrations"), {"alice", "viewer"}),
    (ask("create", "kubevirt.io", "virtualmachineinstancemigrations"), set()),
    (ask("list", "kubevirt.io", "virtualmachineinstances", namespace=""), set()),
    (ask("patch", "kubevirt.io", "virtualmachineinstances"), {"alice"}),
    (ask("deletecollection", "kubevirt.io", "virtualmachineinstances"), set()),
    (ask("list", "", "pods"), {"alice", "viewer"}),
    (ask("create", "", "pods", "exec"), {"alice"}),
    (ask("get", "", "pods", "exec"), {"alice"}),
    (ask("list", "", "nodes", namespace=""), set()),
    (ask("create", "coordination.k8s.io", "leases"), {"alice"}),
    (ask("list", "coordination.k8s.io", "leases"), {"alice"}),
    (ask("list", "", "secrets"), {"alice"}),
    (ask("list", "kubevirt.io", "kubevirts", namespace="kubevirt"), {"alice", "viewer", "nobody"}),
    (RequestInfo("get", "/version"), {"alice", "viewer", "nobody"}),
    (RequestInfo("get", "/"), set()),
]


@pytest.mark.parametrize(("request_info", "allowed"), RIGHTS)
def test_the_users_of_the_lab_may_what_they_may_in_a_real_cluster(
    request_info: RequestInfo, allowed: set[str]
) -> None:
    rbac = Rbac(default_bindings())

    may = {user.name for user in (ALICE, VIEWER, NOBODY) if rbac.decide(user, request_info).allowed}

    assert may == allowed
    assert rbac.decide(ADMIN, request_info).allowed


def test_nobody_knows_an_anonymous_but_its_version_and_health() -> None:
    rbac = Rbac(default_bindings())
    anonymous = User(ANONYMOUS, groups=(UNAUTHENTICATED,))

    assert rbac.decide(anonymous, RequestInfo("get", "/version")).allowed
    assert rbac.decide(anonymous, RequestInfo("get", "/readyz")).allowed
    assert not rbac.decide(anonymous, RequestInfo("get", "/api")).allowed


def test_components_write_status_everywhere() -> None:
    name = service_account(CONTROLLER)
    user = authenticated(name, ACCOUNTS[name])
    rbac = Rbac(default_bindings())

    assert rbac.decide(user, ask("patch", "kubevirt.io", "virtualmachineinstances")).allowed
    assert rbac.decide(user, ask("patch", "", "pods", "status", "other")).allowed


def test_the_reason_names_binding_role_and_subject() -> None:
    rbac = Rbac(default_bindings())

    decision = rbac.decide(ALICE, ask("get", STREAMS, "virtualmachineinstances", "usbredir"))

    assert decision.reason == (
        'RBAC: allowed by RoleBinding "alice/demo" of ClusterRole "edit" to User "alice"'
    )


def test_a_binding_can_be_added_and_taken_away() -> None:
    migrate = ask("update", STREAMS, "virtualmachines", "migrate")
    rbac = Rbac(default_bindings())
    binding = Binding("migrators", MIGRATE, SubjectKind.USER, "alice", "demo")

    rbac.bindings.append(binding)
    assert rbac.decide(ALICE, migrate).allowed

    rbac.bindings.remove(binding)
    assert not rbac.decide(ALICE, migrate).allowed


def test_a_rule_can_be_about_one_object() -> None:
    rule = Rule(("get",), ("",), ("pods",), names=("one",))
    role = Role("one", (rule,))
    rbac = Rbac([Binding("one", role, SubjectKind.USER, "alice")])

    assert rbac.decide(ALICE, RequestInfo("get", "", "", "v1", "demo", "pods", "", "one")).allowed
    assert not rbac.decide(
        ALICE, RequestInfo("get", "", "", "v1", "demo", "pods", "", "two")
    ).allowed


SENTENCES = [
    (
        ask("get", STREAMS, "virtualmachineinstances", "usbredir"),
        'User "alice" cannot get resource "virtualmachineinstances/usbredir" in API group '
        '"subresources.kubevirt.io" in the namespace "demo"',
    ),
    (
        ask("list", "", "nodes", namespace=""),
        'User "alice" cannot list resource "nodes" in API group "" at the cluster scope',
    ),
    (RequestInfo("get", "/"), 'User "alice" cannot get path "/"'),
]


@pytest.mark.parametrize(("request_info", "sentence"), SENTENCES)
def test_what_is_not_allowed_is_said_as_by_the_real_one(
    request_info: RequestInfo, sentence: str
) -> None:
    assert describe(ALICE, request_info) == sentence
