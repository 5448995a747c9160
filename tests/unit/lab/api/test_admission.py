from __future__ import annotations

import pytest

from kubectl_vmredir.lab.api.auth import authenticated
from kubectl_vmredir.lab.api.objects import Json
from kubectl_vmredir.lab.api.patches import MERGE, Patch
from kubectl_vmredir.lab.api.rbac import MASTERS, User
from kubectl_vmredir.lab.api.registry import Registry
from kubectl_vmredir.lab.api.resources import NAMESPACES, VMIMS, VMIS, VMS, Target
from kubectl_vmredir.lab.api.roles import ACCOUNTS, CONTROLLER, service_account
from kubectl_vmredir.lab.api.status import Refusal
from kubectl_vmredir.lab.api.store import Store

ALICE = authenticated("alice")
ADMIN = authenticated("admin", (MASTERS,))
COMPONENT = authenticated(service_account(CONTROLLER), ACCOUNTS[service_account(CONTROLLER)])
VMI = Target(VMIS, "demo", "fedora")


def obj(kind: str, name: str, **more: object) -> Json:
    return {"apiVersion": "kubevirt.io/v1", "kind": kind, "metadata": {"name": name}, **more}


def vmim(name: str, vmi: str = "fedora") -> Json:
    return obj("VirtualMachineInstanceMigration", name, spec={"vmiName": vmi})


@pytest.fixture
def registry() -> Registry:
    made = Registry(Store())
    made.create(Target(NAMESPACES), {"metadata": {"name": "demo"}}, ADMIN)
    return made


def add_vmi(registry: Registry, user: User = ADMIN, **status: object) -> Json:
    body = obj("VirtualMachineInstance", "fedora", spec={"domain": {}}, status=status)
    return registry.create(Target(VMIS, "demo"), body, user)


def patch(registry: Registry, body: bytes, user: User) -> Json:
    return registry.patch(VMI, Patch(MERGE, body), user)


def test_a_new_vmi_is_pending_whatever_its_user_says(registry: Registry) -> None:
    made = add_vmi(registry, ALICE, phase="Running", nodeName="node1")

    assert made["metadata"]["finalizers"] == ["kubevirt.io/foregroundDeleteVirtualMachine"]
    assert made["status"]["phase"] == "Pending"
    assert "nodeName" not in made["status"]


def test_a_test_may_set_the_stage(registry: Registry) -> None:
    made = add_vmi(registry, ADMIN, phase="Running", nodeName="node1")

    assert made["status"] == {"phase": "Running", "nodeName": "node1"}


def test_a_new_migration_gets_finalizer_and_label(registry: Registry) -> None:
    add_vmi(registry, phase="Running")

    made = registry.create(Target(VMIMS, "demo"), vmim("move"), ADMIN)

    assert made["metadata"]["finalizers"] == ["kubevirt.io/migrationJobFinalize"]
    assert made["metadata"]["labels"] == {"kubevirt.io/vmi-name": "fedora"}


DENIED = 'admission webhook "migration-create-validator.kubevirt.io" denied the request: '


def test_a_migration_needs_a_vmi(registry: Registry) -> None:
    with pytest.raises(Refusal) as caught:
        registry.create(Target(VMIMS, "demo"), vmim("move"), ADMIN)

    assert caught.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": f'{DENIED}the VMI "demo/fedora" does not exist',
        "code": 400,
    }


def test_a_migration_needs_the_name_of_its_vmi(registry: Registry) -> None:
    with pytest.raises(Refusal) as caught:
        registry.create(Target(VMIMS, "demo"), vmim("move", ""), ADMIN)

    assert caught.value.code == 422
    assert caught.value.details == {
        "causes": [
            {
                "reason": "FieldValueRequired",
                "message": "vmiName is missing",
                "field": "spec.vmiName",
            }
        ]
    }


def test_one_migration_at_a_time(registry: Registry) -> None:
    add_vmi(registry, phase="Running")
    first = registry.create(Target(VMIMS, "demo"), vmim("first"), ADMIN)

    with pytest.raises(Refusal) as caught:
        registry.create(Target(VMIMS, "demo"), vmim("second"), ADMIN)
    assert caught.value.message == (
        f"{DENIED}in-flight migration detected. Active migration job "
        f"({first['metadata']['uid']}) is currently already in progress for VMI fedora."
    )

    done = Patch(MERGE, b'{"status":{"phase":"Succeeded"}}')
    registry.patch(Target(VMIMS, "demo", "first", "status"), done, COMPONENT)
    registry.create(Target(VMIMS, "demo"), vmim("second"), ADMIN)


def test_a_vmi_that_cannot_migrate_is_refused_with_its_reason(registry: Registry) -> None:
    condition = {"type": "LiveMigratable", "status": "False", "reason": "R", "message": "M"}
    add_vmi(registry, phase="Running", conditions=[condition])

    with pytest.raises(Refusal, match="Cannot migrate VMI, Reason: R, Message: M"):
        registry.create(Target(VMIMS, "demo"), vmim("move"), ADMIN)


def test_a_vmi_that_has_ended_does_not_migrate(registry: Registry) -> None:
    add_vmi(registry, phase="Failed")

    with pytest.raises(Refusal, match=r"Cannot migrate VMI in finalized state\."):
        registry.create(Target(VMIMS, "demo"), vmim("move"), ADMIN)


def test_nobody_changes_what_a_migration_is_about(registry: Registry) -> None:
    add_vmi(registry, phase="Running")
    registry.create(Target(VMIMS, "demo"), vmim("move"), ADMIN)

    with pytest.raises(Refusal, match="update of Migration object's spec is restricted"):
        registry.patch(
            Target(VMIMS, "demo", "move"), Patch(MERGE, b'{"spec":{"vmiName":"x"}}'), ADMIN
        )


def test_the_status_that_a_user_writes_is_forgotten(registry: Registry) -> None:
    add_vmi(registry, phase="Running")

    made = patch(registry, b'{"status":{"phase":"Failed"}}', ALICE)

    assert made["status"] == {"phase": "Running"}
    assert patch(registry, b'{"status":{"phase":"Failed"}}', COMPONENT)["status"] == {
        "phase": "Failed"
    }


RESTRICTED = [
    (b'{"spec":{"architecture":"arm64"}}', "update of VMI object is restricted"),
    (
        b'{"metadata":{"labels":{"kubevirt.io/nodeName":"x"}}}',
        "modification of the following reserved kubevirt.io/ labels on a VMI object is prohibited",
    ),
]


@pytest.mark.parametrize(("body", "why"), RESTRICTED)
def test_a_user_may_not_change_what_kubevirt_writes(
    registry: Registry, body: bytes, why: str
) -> None:
    add_vmi(registry, phase="Running")

    with pytest.raises(Refusal) as caught:
        patch(registry, body, ALICE)

    assert (caught.value.code, caught.value.message) == (
        422,
        'admission webhook "virtualmachineinstances-update-validator.kubevirt.io" denied the '
        f"request: {why}",
    )
    patch(registry, body, COMPONENT)


def test_a_user_may_annotate_a_vmi(registry: Registry) -> None:
    add_vmi(registry, phase="Running")

    made = patch(registry, b'{"metadata":{"annotations":{"vmredir.io/slots":"flash"}}}', ALICE)

    assert made["metadata"]["annotations"] == {"vmredir.io/slots": "flash"}


def test_a_vm_needs_a_template(registry: Registry) -> None:
    with pytest.raises(Refusal, match=r"spec\.template in body is required"):
        registry.create(Target(VMS, "demo"), obj("VirtualMachine", "fedora", spec={}), ALICE)
