from __future__ import annotations

import pytest

from kubectl_vmredir.lab.api.auth import authenticated
from kubectl_vmredir.lab.api.objects import Json, parse_timestamp
from kubectl_vmredir.lab.api.patches import JSON_PATCH, MERGE, Patch
from kubectl_vmredir.lab.api.rbac import MASTERS
from kubectl_vmredir.lab.api.registry import Registry
from kubectl_vmredir.lab.api.resources import (
    LEASES,
    NAMESPACES,
    PODS,
    VMIMS,
    VMIS,
    Resource,
    Target,
)
from kubectl_vmredir.lab.api.status import Refusal
from kubectl_vmredir.lab.api.store import ChangeKind, Store
from kubectl_vmredir.lab.api.validation import DeleteOptions

ADMIN = authenticated("admin", (MASTERS,))
NOW = DeleteOptions()


@pytest.fixture
def store() -> Store:
    filled = Store()
    Registry(filled).create(Target(NAMESPACES), {"metadata": {"name": "demo"}}, ADMIN)
    Registry(filled).create(Target(VMIS, "demo"), vmi("fedora"), ADMIN)
    return filled


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


def of(resource: Resource, name: str, **more: object) -> Json:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name},
        **more,
    }


def vmi(name: str) -> Json:
    return of(VMIS, name, spec={"domain": {}}, status={"phase": "Running"})


def vmim(name: str, **more: object) -> Json:
    return of(VMIMS, name, spec={"vmiName": "fedora"}, **more)


def pod(name: str, **spec: object) -> Json:
    return of(PODS, name, spec={"containers": [{"name": "compute"}], **spec})


def refused(caught: pytest.ExceptionInfo[Refusal]) -> tuple[int, str, str]:
    return caught.value.code, caught.value.reason, caught.value.message


def test_a_new_object_gets_what_the_server_knows(registry: Registry) -> None:
    made = registry.create(Target(LEASES, "demo"), of(LEASES, "lock", spec={}), ADMIN)

    meta = made["metadata"]
    assert meta["namespace"] == "demo"
    assert meta["generation"] == 1
    assert len(meta["uid"]) == 36
    assert parse_timestamp(meta["creationTimestamp"]).tzinfo is not None
    assert int(meta["resourceVersion"]) > 1


def test_a_prefix_becomes_a_name(registry: Registry) -> None:
    body = {**vmim(""), "metadata": {"generateName": "kubevirt-migrate-vm-"}}

    made = registry.create(Target(VMIMS, "demo"), body, ADMIN)

    prefix, _, suffix = made["metadata"]["name"].rpartition("-")
    assert prefix == "kubevirt-migrate-vm"
    assert len(suffix) == 5


def test_the_status_of_a_new_object_is_ignored_where_there_is_a_subresource(
    registry: Registry,
) -> None:
    made = registry.create(Target(VMIMS, "demo"), vmim("move", status={"phase": "Running"}), ADMIN)

    assert "status" not in made


CREATES = [
    pytest.param(
        VMIMS, vmim("move", metadata={}), 422, "Invalid",
        'VirtualMachineInstanceMigration.kubevirt.io "" is invalid: metadata.name: Required '
        "value: name or generateName is required",
        id="no-name",
    ),
    pytest.param(
        VMIS, vmi("fedora"), 409, "AlreadyExists",
        'virtualmachineinstances.kubevirt.io "fedora" already exists',
        id="there-already",
    ),
    pytest.param(
        VMIS, {**vmi("a"), "metadata": {"name": "a", "namespace": "other"}}, 400, "BadRequest",
        "the namespace of the provided object does not match the namespace sent on the request",
        id="other-namespace",
    ),
    pytest.param(
        VMIS, {**vmi("a"), "kind": "Pod"}, 422, "Invalid",
        'Pod.kubevirt.io "a" is invalid: kind: Invalid value: "Pod": must be '
        "VirtualMachineInstance",
        id="other-kind",
    ),
    pytest.param(
        VMIS, {**vmi("a"), "apiVersion": "v1"}, 400, "BadRequest",
        "the API version in the data (v1) does not match the expected API version "
        "(kubevirt.io/v1)",
        id="other-version",
    ),
    pytest.param(
        PODS, {**pod("a"), "kind": "Node"}, 400, "BadRequest",
        'Node in version "v1" cannot be handled as a Pod: converting (v1.Node) to (core.Pod): '
        "unknown conversion",
        id="core-kind",
    ),
    pytest.param(
        PODS, of(PODS, "a", spec={}), 422, "Invalid",
        'Pod "a" is invalid: spec.containers: Required value',
        id="no-containers",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "body", "code", "reason", "message"), CREATES)
def test_what_cannot_be_created_is_refused_and_nothing_is_written(
    store: Store, resource: Resource, body: Json, code: int, reason: str, message: str
) -> None:
    version = store.version

    with pytest.raises(Refusal) as caught:
        Registry(store).create(Target(resource, "demo"), body, ADMIN)

    assert refused(caught) == (code, reason, message)
    assert store.version == version


@pytest.mark.parametrize(
    "meta",
    [
        {"name": "a", "labels": []},
        {"name": "a", "labels": {"tier": 1}},
        {"name": "a", "annotations": "text"},
        {"name": "a", "finalizers": {}},
        {"name": 5},
    ],
)
def test_metadata_of_the_wrong_type_is_a_bad_request(registry: Registry, meta: Json) -> None:
    with pytest.raises(
        Refusal, match=r"cannot unmarshal into Go struct field ObjectMeta"
    ) as caught:
        registry.create(Target(VMIS, "demo"), {**vmi("a"), "metadata": meta}, ADMIN)

    assert caught.value.code == 400


def test_a_bad_name_is_refused_with_the_rule(registry: Registry) -> None:
    with pytest.raises(Refusal, match=r"a lowercase RFC 1123 subdomain must consist of"):
        registry.create(Target(VMIS, "demo"), vmi("Bad_Name"), ADMIN)


def test_a_namespace_that_is_not_there_is_not_found(registry: Registry) -> None:
    with pytest.raises(Refusal, match='namespaces "other" not found'):
        registry.create(Target(PODS, "other"), pod("a"), ADMIN)


def test_an_update_needs_the_version_it_is_based_on(registry: Registry) -> None:
    old = registry.get(Target(VMIS, "demo", "fedora"))
    target = Target(VMIS, "demo", "fedora")
    registry.patch(target, Patch(MERGE, b'{"metadata":{"labels":{"a":"b"}}}'), ADMIN)

    with pytest.raises(Refusal) as caught:
        registry.update(target, {**old, "spec": {}}, ADMIN)
    assert refused(caught) == (
        409,
        "Conflict",
        'Operation cannot be fulfilled on virtualmachineinstances.kubevirt.io "fedora": the '
        "object has been modified; please apply your changes to the latest version and try again",
    )

    with pytest.raises(Refusal, match="must be specified for an update"):
        registry.update(target, vmi("fedora"), ADMIN)


def test_an_update_keeps_what_belongs_to_the_server(registry: Registry) -> None:
    target = Target(VMIS, "demo", "fedora")
    old = registry.get(target)
    meta = {**old["metadata"], "creationTimestamp": None, "generation": 99}

    new = registry.update(target, {**old, "metadata": meta, "spec": {"x": 1}}, ADMIN)

    assert new["metadata"]["creationTimestamp"] == old["metadata"]["creationTimestamp"]
    assert new["metadata"]["generation"] == old["metadata"]["generation"] + 1
    assert new["metadata"]["uid"] == old["metadata"]["uid"]


def test_a_change_that_changes_nothing_makes_no_version(store: Store) -> None:
    registry = Registry(store)
    target = Target(VMIS, "demo", "fedora")
    patch = Patch(MERGE, b'{"metadata":{"annotations":{"a":"b"}}}')
    once = registry.patch(target, patch, ADMIN)

    twice = registry.patch(target, patch, ADMIN)

    assert twice == once
    assert store.version == int(once["metadata"]["resourceVersion"])


def test_status_and_the_rest_are_written_apart(registry: Registry) -> None:
    registry.create(Target(VMIMS, "demo"), vmim("move"), ADMIN)
    both = Patch(MERGE, b'{"metadata":{"annotations":{"a":"b"}},"status":{"phase":"Running"}}')

    plain = registry.patch(Target(VMIMS, "demo", "move"), both, ADMIN)
    status = registry.patch(Target(VMIMS, "demo", "move", "status"), both, ADMIN)

    assert "status" not in plain
    assert plain["metadata"]["annotations"] == {"a": "b"}
    assert status["status"] == {"phase": "Running"}
    assert status["metadata"]["generation"] == plain["metadata"]["generation"]


def test_the_status_of_a_custom_object_takes_nothing_else(registry: Registry) -> None:
    registry.create(Target(VMIMS, "demo"), vmim("move"), ADMIN)
    patch = Patch(
        MERGE, b'{"metadata":{"annotations":{"a":"b"}},"spec":{"vmiName":"x"},"status":{"p":1}}'
    )

    made = registry.patch(Target(VMIMS, "demo", "move", "status"), patch, ADMIN)

    assert made["spec"] == {"vmiName": "fedora"}
    assert "annotations" not in made["metadata"]


PATCHES = [
    pytest.param(
        b'{"metadata":{"name":"x"}}', 400,
        "the name of the object (x) does not match the name on the URL (fedora)",
        id="name",
    ),
    pytest.param(
        b'{"metadata":{"uid":"x"}}', 422,
        'VirtualMachineInstance.kubevirt.io "fedora" is invalid: metadata.uid: Invalid value: '
        '"x": field is immutable',
        id="uid",
    ),
    pytest.param(
        b'{"metadata":{"resourceVersion":"1"}}', 409,
        'Operation cannot be fulfilled on virtualmachineinstances.kubevirt.io "fedora": the '
        "object has been modified; please apply your changes to the latest version and try again",
        id="version",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "message"), PATCHES)
def test_a_patch_cannot_change_who_an_object_is(
    registry: Registry, body: bytes, code: int, message: str
) -> None:
    with pytest.raises(Refusal) as caught:
        registry.patch(Target(VMIS, "demo", "fedora"), Patch(MERGE, body), ADMIN)

    assert (caught.value.code, caught.value.message) == (code, message)


def test_what_nobody_holds_is_gone_at_once(registry: Registry) -> None:
    registry.create(Target(LEASES, "demo"), of(LEASES, "lock", spec={}), ADMIN)

    _, gone = registry.delete(Target(LEASES, "demo", "lock"), NOW)

    assert gone
    with pytest.raises(Refusal, match=r'leases.coordination.k8s.io "lock" not found'):
        registry.get(Target(LEASES, "demo", "lock"))


def test_a_finalizer_holds_an_object_until_it_is_taken_off(store: Store) -> None:
    registry = Registry(store)
    registry.create(Target(VMIMS, "demo"), vmim("move"), ADMIN)
    target = Target(VMIMS, "demo", "move")

    marked, gone = registry.delete(target, NOW)
    again, _ = registry.delete(target, NOW)
    assert not gone
    assert again == marked
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    assert "deletionTimestamp" in marked["metadata"]

    before = store.version
    registry.patch(target, Patch(MERGE, b'{"metadata":{"finalizers":null}}'), ADMIN)

    [change] = store.changes_since(before)
    assert change.kind is ChangeKind.DELETED
    assert store.get(VMIMS, "demo", "move") is None


def test_preconditions_of_a_deletion(registry: Registry) -> None:
    target = Target(VMIS, "demo", "fedora")

    with pytest.raises(Refusal, match=r"the UID in the precondition \(x\) does not match"):
        registry.delete(target, DeleteOptions(uid="x"))
    with pytest.raises(Refusal, match=r"the ResourceVersion in the precondition \(1\) does not"):
        registry.delete(target, DeleteOptions(resource_version="1"))


def test_a_pod_on_a_node_ends_in_two_steps(registry: Registry) -> None:
    registry.create(Target(PODS, "demo"), pod("a", nodeName="node1"), ADMIN)
    target = Target(PODS, "demo", "a")

    marked, gone = registry.delete(target, NOW)
    assert not gone
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30

    _, gone = registry.delete(target, DeleteOptions(grace_s=0))
    assert gone


def test_a_pod_without_a_node_is_gone_at_once(registry: Registry) -> None:
    registry.create(Target(PODS, "demo"), pod("a"), ADMIN)

    _, gone = registry.delete(Target(PODS, "demo", "a"), NOW)

    assert gone


def test_a_namespace_is_terminated_and_stays(registry: Registry) -> None:
    marked, gone = registry.delete(Target(NAMESPACES, "", "demo"), NOW)

    assert not gone
    assert marked["status"] == {"phase": "Terminating"}
    assert marked["metadata"]["labels"] == {"kubernetes.io/metadata.name": "demo"}


def test_a_json_patch_of_a_stale_version_is_a_conflict(registry: Registry) -> None:
    body = b'[{"op":"replace","path":"/metadata/resourceVersion","value":"1"}]'

    with pytest.raises(Refusal) as caught:
        registry.patch(Target(VMIS, "demo", "fedora"), Patch(JSON_PATCH, body), ADMIN)

    assert caught.value.code == 409
