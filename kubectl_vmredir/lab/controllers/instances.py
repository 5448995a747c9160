"""Controller of VirtualMachineInstances: their launcher pod, and their phases."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.controllers import pods as rendered
from kubectl_vmredir.lab.controllers.writes import (
    Create,
    Delete,
    Patch,
    Write,
    phase_change,
    without_finalizers,
)
from kubectl_vmredir.lab.objects import Collection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kubectl_vmredir.k8s.objects import JsonObject

_OBSERVED: Final = {
    "kubevirt.io/latest-observed-api-version": "v1",
    "kubevirt.io/storage-observed-api-version": "v1",
}


def decide(vmi: JsonObject, pods: Sequence[JsonObject], now: datetime) -> Write | None:
    """Return what is due for a VMI.

    Args:
        vmi: The VMI.
        pods: Its launcher pods, those of migrations and those that have ended too.
        now: Time of day.
    """
    if objects.deleting(vmi) or objects.is_final(vmi):
        return _ended(vmi, pods)
    if objects.annotation(vmi, next(iter(_OBSERVED))) is None:
        return _adopted(vmi, now)
    match objects.phase(vmi):
        case "Pending" if not pods:
            return Create(Collection.PODS, rendered.launcher(vmi))
        case "Pending":
            return _patch(vmi, status=phase_change(vmi, "Scheduling", now) | _active(vmi, pods))
        case "Scheduling" if any(objects.is_ready(pod) for pod in pods):
            return _scheduled(vmi, pods, now)
        case _ if all(objects.is_final(pod) for pod in pods):
            return _patch(vmi, status=phase_change(vmi, "Failed", now))
        case _:
            return _active_pods(vmi, pods) or _image_version(vmi)


def _patch(vmi: JsonObject, *, status: JsonObject, metadata: JsonObject | None = None) -> Patch:
    # A VMI has no subresource status: kubevirt.io's CRD does not enable it.
    change: JsonObject = {"status": status}
    if metadata:
        change["metadata"] = metadata
    return Patch(Collection.VMIS, vmi, change)


def _ended(vmi: JsonObject, pods: Sequence[JsonObject]) -> Write | None:
    for pod in pods:
        if not objects.deleting(pod):
            return Delete(Collection.PODS, pod)
    if objects.deleting(vmi) and not pods:
        return without_finalizers(Collection.VMIS, vmi)
    return None


def _adopted(vmi: JsonObject, now: datetime) -> Patch:
    """Mark a VMI as seen, once; a cluster without webhooks has given it nothing yet."""
    metadata = {"annotations": _OBSERVED, "finalizers": list(objects.VMI_FINALIZERS)}
    status = {} if objects.phase(vmi) else phase_change(vmi, "Pending", now)
    return _patch(vmi, status=status, metadata=metadata)


def _scheduled(vmi: JsonObject, pods: Sequence[JsonObject], now: datetime) -> Patch:
    pod = next(pod for pod in pods if objects.is_ready(pod))
    node = objects.spec(pod)["nodeName"]
    status = phase_change(vmi, "Scheduled", now) | _active(vmi, pods)
    status |= {
        "nodeName": node,
        "launcherContainerImageVersion": rendered.IMAGE,
        "qosClass": "Burstable",
        "runtimeUser": 107,
    }
    return _patch(vmi, status=status, metadata={"labels": {objects.NODE_NAME: node}})


def _active(vmi: JsonObject, pods: Sequence[JsonObject]) -> JsonObject:
    """Return the part of a merge patch that makes activePods right."""
    here = {objects.uid(pod): objects.spec(pod).get("nodeName", "") for pod in pods}
    gone = dict.fromkeys(objects.status(vmi).get("activePods") or {})
    return {"activePods": gone | here}


def _active_pods(vmi: JsonObject, pods: Sequence[JsonObject]) -> Write | None:
    active = _active(vmi, pods)
    if active["activePods"] == (objects.status(vmi).get("activePods") or {}):
        return None
    return _patch(vmi, status=active)


def _image_version(vmi: JsonObject) -> Write | None:
    """Say again which launcher runs the VMI; a migration takes the word away."""
    if objects.phase(vmi) != "Running" or "launcherContainerImageVersion" in objects.status(vmi):
        return None
    return _patch(vmi, status={"launcherContainerImageVersion": rendered.IMAGE})
