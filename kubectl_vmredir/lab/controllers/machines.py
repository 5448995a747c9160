"""Controller of VirtualMachines: whether there is a VMI, as runStrategy says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.controllers.writes import (
    Create,
    Delete,
    Patch,
    Write,
    without_finalizers,
)
from kubectl_vmredir.lab.objects import Collection

if TYPE_CHECKING:
    from kubectl_vmredir.k8s.objects import JsonObject


def decide(vm: JsonObject, vmi: JsonObject | None) -> Write | None:
    """Return what is due for a VM.

    Args:
        vm: The VM.
        vmi: The VMI of that name, if there is one.
    """
    if objects.deleting(vm):
        return _stopped(vmi) if vmi is not None else without_finalizers(Collection.VMS, vm)
    if objects.VM_FINALIZER not in objects.finalizers(vm):
        finalizers = [*objects.finalizers(vm), objects.VM_FINALIZER]
        return Patch(Collection.VMS, vm, {"metadata": {"finalizers": finalizers}})
    return _vmi_as_wanted(vm, vmi) or _told(vm, vmi)


def _vmi_as_wanted(vm: JsonObject, vmi: JsonObject | None) -> Write | None:
    strategy = _run_strategy(vm)
    match strategy:
        case "Always" | "RerunOnFailure" if vmi is None:
            return Create(Collection.VMIS, _vmi(vm))
        case "Always" if vmi is not None and objects.is_final(vmi):
            return _stopped(vmi)
        case "RerunOnFailure" if vmi is not None and objects.phase(vmi) == "Failed":
            return _stopped(vmi)
        case "Halted":
            return _stopped(vmi)
        case _:  # Manual: start and stop are virt-api's
            return None


def _run_strategy(vm: JsonObject) -> str:
    spec = objects.spec(vm)
    old_way = "Always" if spec.get("running") else "Halted"
    return str(spec.get("runStrategy", old_way))


def _stopped(vmi: JsonObject | None) -> Write | None:
    if vmi is None or objects.deleting(vmi):
        return None
    return Delete(Collection.VMIS, vmi)


def _vmi(vm: JsonObject) -> JsonObject:
    template = objects.spec(vm).get("template") or {}
    metadata = template.get("metadata") or {}
    owner = {
        "apiVersion": objects.KUBEVIRT_API,
        "kind": "VirtualMachine",
        "name": objects.name(vm),
        "uid": objects.uid(vm),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "apiVersion": objects.KUBEVIRT_API,
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": objects.name(vm),
            "namespace": objects.namespace(vm),
            "labels": metadata.get("labels") or {},
            "annotations": metadata.get("annotations") or {},
            "ownerReferences": [owner],
            "finalizers": list(objects.VMI_FINALIZERS),
        },
        "spec": template.get("spec") or {},
    }


def _told(vm: JsonObject, vmi: JsonObject | None) -> Write | None:
    """Bring the status of the VM up to date."""
    ready = vmi is not None and objects.is_ready(vmi)
    status = {
        "created": vmi is not None,
        "ready": ready,
        "printableStatus": _printable_status(vm, vmi),
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
    }
    if status.items() <= objects.status(vm).items():
        return None
    return Patch(Collection.VMS, vm, {"status": status}, "status")


def _printable_status(vm: JsonObject, vmi: JsonObject | None) -> str:
    if vmi is None:
        return "Starting" if _run_strategy(vm) in ("Always", "RerunOnFailure") else "Stopped"
    if objects.deleting(vmi) or objects.is_final(vmi):
        return "Stopping"
    state = objects.migration_state(vmi)
    if state and not state.get("completed"):
        return "Migrating"
    return "Running" if objects.phase(vmi) == "Running" else "Starting"
