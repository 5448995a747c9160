from __future__ import annotations

import pytest

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.controllers import machines
from kubectl_vmredir.lab.controllers.writes import Create, Delete, Patch
from kubectl_vmredir.lab.objects import Collection
from tests.support.lab_objects import CREATED, vm, vmi


def test_a_vm_that_is_to_run_gets_a_vmi_of_its_template() -> None:
    write = machines.decide(vm(), None)

    assert isinstance(write, Create)
    assert write.collection is Collection.VMIS
    assert objects.name(write.obj) == "desk"
    assert objects.annotation(write.obj, "vmredir.io/slots") == "flash"
    assert write.obj["metadata"]["ownerReferences"][0]["uid"] == "uid-desk"


@pytest.mark.parametrize(
    ("strategy", "phase", "stopped"),
    [
        ("Always", "Running", False),
        ("Always", "Failed", True),
        ("Always", "Succeeded", True),
        ("RerunOnFailure", "Failed", True),
        ("RerunOnFailure", "Succeeded", False),
        ("Halted", "Running", True),
        ("Manual", "Running", False),
    ],
)
def test_the_run_strategy_says_when_a_vmi_is_deleted(
    strategy: str, phase: str, *, stopped: bool
) -> None:
    instance = vmi(phase)

    write = machines.decide(vm(strategy), instance)

    assert (write == Delete(Collection.VMIS, instance)) is stopped


def test_a_vmi_that_is_being_deleted_is_waited_for() -> None:
    going = vmi("Failed", deletionTimestamp=CREATED)

    assert not isinstance(machines.decide(vm(), going), Delete)


@pytest.mark.parametrize(
    ("strategy", "phase", "state", "word"),
    [
        ("Halted", None, None, "Stopped"),
        ("Manual", "Scheduling", None, "Starting"),
        ("Always", "Running", None, "Running"),
        ("Always", "Running", {"migrationUid": "x"}, "Migrating"),
        ("Always", "Running", {"migrationUid": "x", "completed": True}, "Running"),
    ],
)
def test_the_status_has_a_word_for_people(
    strategy: str, phase: str | None, state: dict[str, object] | None, word: str
) -> None:
    write = machines.decide(vm(strategy), vmi(phase, state=state) if phase else None)

    assert isinstance(write, Patch)
    assert write.subresource == "status"
    assert write.change["status"]["printableStatus"] == word


def test_the_status_is_told_once() -> None:
    machine = vm()
    write = machines.decide(machine, vmi())
    assert isinstance(write, Patch)
    machine["status"] = write.change["status"]

    assert machines.decide(machine, vmi()) is None


def test_a_new_vm_is_held_and_a_deleted_one_goes_after_its_vmi() -> None:
    fresh = machines.decide(vm(finalizers=None), None)
    assert isinstance(fresh, Patch)
    assert fresh.change == {"metadata": {"finalizers": [objects.VM_FINALIZER]}}

    going, instance = vm(deletionTimestamp=CREATED), vmi()
    assert machines.decide(going, instance) == Delete(Collection.VMIS, instance)
    last = machines.decide(going, None)
    assert isinstance(last, Patch)
    assert last.change == {"metadata": {"finalizers": None}}


def test_the_old_field_running_is_understood() -> None:
    machine = vm()
    machine["spec"] = {"running": True, "template": {}}

    assert isinstance(machines.decide(machine, None), Create)
