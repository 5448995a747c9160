"""Who may do what: the roles edit and view, nobody, and the masters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.raw_streams import dial
from tests.support.vms import NAMESPACE, stream_path

if TYPE_CHECKING:
    from tests.support.vms import Vm
    from tests.support.worlds import World

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
KUBEVIRT, STREAMS, LEASES = "kubevirt.io", "subresources.kubevirt.io", "coordination.k8s.io"
USERS = ("admin", "alice", "viewer", "nobody")

# Verb, API group, resource, subresource, and who may; the masters may all.
RIGHTS = [
    ("get", STREAMS, "virtualmachineinstances", "usbredir", {"alice"}),
    ("get", STREAMS, "virtualmachineinstances", "console", {"alice"}),
    ("get", STREAMS, "virtualmachineinstances", "vnc", {"alice"}),
    ("get", STREAMS, "virtualmachineinstances", "portforward", {"alice"}),
    ("update", STREAMS, "virtualmachines", "start", {"alice"}),
    ("update", STREAMS, "virtualmachines", "stop", {"alice"}),
    ("update", STREAMS, "virtualmachines", "restart", {"alice"}),
    ("update", STREAMS, "virtualmachines", "migrate", set()),
    ("list", KUBEVIRT, "virtualmachineinstances", "", {"alice", "viewer"}),
    ("watch", KUBEVIRT, "virtualmachineinstances", "", {"alice", "viewer"}),
    ("patch", KUBEVIRT, "virtualmachineinstances", "", {"alice"}),
    ("delete", KUBEVIRT, "virtualmachineinstances", "", {"alice"}),
    ("create", KUBEVIRT, "virtualmachines", "", {"alice"}),
    ("patch", KUBEVIRT, "virtualmachines", "", {"alice"}),
    ("watch", KUBEVIRT, "virtualmachineinstancemigrations", "", {"alice", "viewer"}),
    ("create", KUBEVIRT, "virtualmachineinstancemigrations", "", set()),
    ("delete", KUBEVIRT, "virtualmachineinstancemigrations", "", set()),
    ("list", "", "pods", "", {"alice", "viewer"}),
    ("watch", "", "pods", "", {"alice", "viewer"}),
    ("get", "", "pods", "exec", {"alice"}),
    ("create", "", "pods", "exec", {"alice"}),
    ("get", "", "configmaps", "", {"alice", "viewer"}),
    ("create", "", "configmaps", "", {"alice"}),
    ("get", "", "secrets", "", {"alice"}),
    ("create", LEASES, "leases", "", {"alice"}),
    ("update", LEASES, "leases", "", {"alice"}),
    ("get", LEASES, "leases", "", {"alice"}),
    ("get", "", "nodes", "", set()),
    ("impersonate", "", "serviceaccounts", "", {"alice"}),
    ("impersonate", "", "users", "", set()),
]


async def allowed(world: World, user: str, **attributes: str) -> bool:
    """Ask whether a user may do something."""
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    async with world.http(user) as http:
        answer = await http.post(REVIEWS, json=body)
    assert answer.status_code == 201, answer.text
    status: dict[str, Any] = answer.json()["status"]
    return bool(status["allowed"])


@pytest.mark.parametrize("user", USERS)
async def test_what_a_user_may_in_the_namespace(world: World, user: str) -> None:
    wrong = []
    for verb, group, resource, subresource, users in RIGHTS:
        may = await allowed(
            world,
            user,
            verb=verb,
            group=group,
            resource=resource,
            subresource=subresource,
            namespace=NAMESPACE,
        )
        if may is not (user == "admin" or user in users):
            wrong.append((verb, group, resource, subresource, may))

    assert wrong == []


@pytest.mark.parametrize("user", USERS)
async def test_rights_end_with_the_namespace(world: World, user: str) -> None:
    for namespace in ("default", ""):
        may = await allowed(
            world,
            user,
            verb="list",
            group=KUBEVIRT,
            resource="virtualmachineinstances",
            namespace=namespace,
        )

        assert may is (user == "admin")


@pytest.mark.parametrize("user", ["viewer", "nobody"])
async def test_who_may_not_dial_hears_it_from_kube_apiserver(
    world: World, desk: Vm, user: str
) -> None:
    name = desk.ref.name
    async with dial(world, desk.stream(), user=user) as stream:
        body = (await stream.body()).decode()

    assert stream.answer.status == 403
    assert stream.answer.headers["content-type"] == "application/json"
    assert body == (
        '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":'
        f'"virtualmachineinstances.subresources.kubevirt.io \\"{name}\\" is forbidden: User '
        f'\\"{user}\\" cannot get resource \\"virtualmachineinstances/usbredir\\" in API group '
        f'\\"subresources.kubevirt.io\\" in the namespace \\"{NAMESPACE}\\"","reason":"Forbidden",'
        f'"details":{{"name":"{name}","group":"subresources.kubevirt.io","kind":'
        '"virtualmachineinstances"},"code":403}\n'
    )


async def test_who_may_not_dial_does_not_learn_whether_the_vm_exists(world: World) -> None:
    async with dial(world, stream_path("nix"), user="viewer") as stream:
        assert stream.answer.status == 403


async def test_the_owner_of_a_vm_may_not_migrate_it(world: World, desk: Vm) -> None:
    path = (
        f"/apis/subresources.kubevirt.io/v1/namespaces/{NAMESPACE}"
        f"/virtualmachines/{desk.ref.name}/migrate"
    )
    async with world.http("alice") as http:
        answer = await http.put(path, json={})

    assert answer.status_code == 403
    assert answer.json()["message"] == (
        f'virtualmachines.subresources.kubevirt.io "{desk.ref.name}" is forbidden: User "alice" '
        'cannot update resource "virtualmachines/migrate" in API group '
        f'"subresources.kubevirt.io" in the namespace "{NAMESPACE}"'
    )


async def test_the_lists_of_all_namespaces_are_for_the_masters(world: World) -> None:
    async with world.http("alice") as http:
        refused = await http.get("/apis/kubevirt.io/v1/virtualmachineinstances")
    async with world.http("admin") as http:
        listed = await http.get("/apis/kubevirt.io/v1/virtualmachineinstances")

    assert refused.status_code == 403
    assert refused.json()["message"] == (
        'virtualmachineinstances.kubevirt.io is forbidden: User "alice" cannot list resource '
        '"virtualmachineinstances" in API group "kubevirt.io" at the cluster scope'
    )
    assert listed.status_code == 200


async def test_status_is_kubevirts_alone(world: World, desk: Vm) -> None:
    before = await desk.vmi()
    async with world.http("alice") as http:
        answer = await http.patch(
            desk.path,
            json={"status": {"nodeName": "elsewhere"}},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    assert answer.status_code == 200
    assert answer.json()["status"]["nodeName"] == before["status"]["nodeName"]


async def test_reserved_labels_are_kubevirts_alone(world: World, desk: Vm) -> None:
    async with world.http("alice") as http:
        answer = await http.patch(
            desk.path,
            json={"metadata": {"labels": {"kubevirt.io/nodeName": "elsewhere"}}},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    assert answer.status_code == 422
    assert answer.json()["message"] == (
        'admission webhook "virtualmachineinstances-update-validator.kubevirt.io" denied the '
        "request: modification of the following reserved kubevirt.io/ labels on a VMI object is "
        "prohibited"
    )
