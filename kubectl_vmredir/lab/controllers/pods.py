"""The launcher pod of a VMI, as virt-controller asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab import objects

if TYPE_CHECKING:
    from kubectl_vmredir.k8s.objects import JsonObject

IMAGE: Final = "lab/virt-launcher"


def launcher(vmi: JsonObject) -> JsonObject:
    """Return the pod in which a VMI starts."""
    owner = {
        "apiVersion": objects.KUBEVIRT_API,
        "kind": "VirtualMachineInstance",
        "name": objects.name(vmi),
        "uid": objects.uid(vmi),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    labels = {
        **{key: str(value) for key, value in (vmi["metadata"].get("labels") or {}).items()},
        objects.APP: objects.LAUNCHER,
        objects.CREATED_BY: objects.uid(vmi),
        "vm.kubevirt.io/name": objects.name(vmi),
        "vmi.kubevirt.io/id": objects.name(vmi),
    }
    annotations = {
        "kubevirt.io/domain": objects.name(vmi),
        "kubectl.kubernetes.io/default-container": "compute",
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{objects.LAUNCHER}-{objects.name(vmi)}-",
            "namespace": objects.namespace(vmi),
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner],
        },
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": dict(objects.spec(vmi).get("nodeSelector") or {}),
            "containers": [{"name": "compute", "image": IMAGE}],
        },
    }


def target(vmi: JsonObject, vmim: JsonObject) -> JsonObject:
    """Return the pod to which a VMI migrates: never on the node of another pod of the VMI."""
    pod = launcher(vmi)
    pod["metadata"]["labels"] |= {objects.MIGRATION_JOB_UID: objects.uid(vmim)}
    pod["metadata"]["annotations"] |= {objects.MIGRATION_JOB_NAME: objects.name(vmim)}
    added = objects.spec(vmim).get("addedNodeSelector") or {}
    pod["spec"]["nodeSelector"] = {**added, **pod["spec"]["nodeSelector"]}
    term = {
        "labelSelector": {"matchLabels": {objects.CREATED_BY: objects.uid(vmi)}},
        "topologyKey": objects.HOSTNAME,
    }
    pod["spec"]["affinity"] = {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    }
    return pod
