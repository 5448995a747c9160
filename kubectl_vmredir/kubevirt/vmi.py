"""JSON of KubeVirt -> our views of VMIs and migrations.

Source: kubevirt.io/api/core/v1, types.go. Nothing in the JSON is trusted: what is not of the
expected type counts as absent, control characters are escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.k8s.objects import metadata, part, text
from kubectl_vmredir.model import (
    MigrationUid,
    MigrationView,
    VmimView,
    VmiRef,
    VmiUid,
    VmiView,
)
from kubectl_vmredir.service.slot_names import (
    DEFAULT_SLOTS,
    SLOTS_ANNOTATION,
    checked_slot_names,
    parse_slot_names,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.k8s.objects import JsonObject


def vmi_view(vmi: JsonObject) -> VmiView:
    """Return what matters of a VirtualMachineInstance."""
    meta, spec, status = metadata(vmi), part(vmi, "spec"), part(vmi, "status")
    devices = part(part(spec, "domain"), "devices")
    proposed = _proposed_names(devices)
    passthrough = isinstance(devices.get("clientPassthrough"), dict) or bool(proposed)
    slots, problem = _slots(meta, proposed) if passthrough else ((), "")
    migration = status.get("migrationState")
    return VmiView(
        ref=VmiRef(text(meta, "namespace"), text(meta, "name")),
        uid=VmiUid(text(meta, "uid")),
        phase=text(status, "phase"),
        node=text(status, "nodeName"),
        client_passthrough=passthrough,
        slots=slots,
        migratable=_condition(status, "LiveMigratable"),
        migration=_migration_view(migration) if isinstance(migration, dict) else None,
        deleting=bool(text(meta, "deletionTimestamp")),
        architecture=text(spec, "architecture"),
        slots_problem=problem,
    )


def essence_of_vmi(vmi: JsonObject) -> JsonObject:
    """Return a VirtualMachineInstance with no more than :func:`vmi_view` looks at."""
    meta, spec, status = metadata(vmi), part(vmi, "spec"), part(vmi, "status")
    devices = part(part(spec, "domain"), "devices")
    annotations = _only(part(meta, "annotations"), SLOTS_ANNOTATION)
    return {
        "metadata": {
            **_only(meta, "namespace", "name", "uid", "resourceVersion", "deletionTimestamp"),
            "annotations": annotations,
        },
        "spec": {
            **_only(spec, "architecture"),
            "domain": {"devices": _only(devices, "clientPassthrough", "clientDevices")},
        },
        "status": _only(status, "phase", "nodeName", "conditions", "migrationState"),
    }


def vmim_view(vmim: JsonObject) -> VmimView:
    """Return what matters of a VirtualMachineInstanceMigration."""
    meta, status = metadata(vmim), part(vmim, "status")
    migration = part(status, "migrationState")
    return VmimView(
        namespace=text(meta, "namespace"),
        name=text(meta, "name"),
        uid=MigrationUid(text(meta, "uid")),
        vmi_name=text(part(vmim, "spec"), "vmiName"),
        phase=text(status, "phase"),
        source_node=text(migration, "sourceNode"),
        target_node=text(migration, "targetNode"),
        deleting=bool(text(meta, "deletionTimestamp")),
    )


def _migration_view(state: JsonObject) -> MigrationView:
    return MigrationView(
        uid=MigrationUid(text(state, "migrationUid")),
        source_node=text(state, "sourceNode"),
        target_node=text(state, "targetNode"),
        source_pod=text(state, "sourcePod"),
        target_pod=text(state, "targetPod"),
        start_timestamp=text(state, "startTimestamp"),
        target_domain_detected=state.get("targetNodeDomainDetected") is True,
        target_domain_ready_timestamp=text(state, "targetNodeDomainReadyTimestamp"),
        end_timestamp=text(state, "endTimestamp"),
        mode=text(state, "mode"),
        completed=state.get("completed") is True,
        failed=state.get("failed") is True,
        abort_requested=state.get("abortRequested") is True,
        abort_status=text(state, "abortStatus"),
        failure_reason=text(state, "failureReason"),
    )


def _slots(meta: JsonObject, proposed: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the names of the slots, and why those of the VMI are not used."""
    annotation = part(meta, "annotations").get(SLOTS_ANNOTATION)
    try:
        if isinstance(annotation, str):
            return parse_slot_names(annotation), ""
        if proposed:
            return checked_slot_names(proposed), ""
    except ValueError as exc:
        return DEFAULT_SLOTS, str(exc)
    return DEFAULT_SLOTS, ""


def _proposed_names(devices: JsonObject) -> Sequence[str]:
    """Return ``clientDevices[].usb.name``: slots with names, as first proposed to KubeVirt."""
    found = devices.get("clientDevices")
    if not isinstance(found, list):
        return []
    names = [part(device, "usb").get("name") for device in found if isinstance(device, dict)]
    return [name for name in names if isinstance(name, str)]


def _condition(status: JsonObject, kind: str) -> bool | None:
    found = status.get("conditions")
    for condition in found if isinstance(found, list) else []:
        match condition:
            case {"type": str(name), "status": "True"} if name == kind:
                return True
            case {"type": str(name), "status": "False"} if name == kind:
                return False
            case _:
                continue
    return None


def _only(parent: JsonObject, *keys: str) -> JsonObject:
    return {key: parent[key] for key in keys if key in parent}
