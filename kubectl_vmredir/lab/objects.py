"""Paths, names and fields of the API objects that controllers and nodes deal in.

Names are KubeVirt's (api/core/v1/types.go, api/core/v1/register.go); the lab's own are at the end.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final

from kubectl_vmredir.k8s.objects import metadata
from kubectl_vmredir.model import VmiRef

if TYPE_CHECKING:
    from kubectl_vmredir.k8s.objects import JsonObject

KUBEVIRT_NAMESPACE: Final = "kubevirt"
KUBEVIRT_API: Final = "kubevirt.io/v1"

APP: Final = "kubevirt.io"
"""Label that says what a pod is: virt-launcher or virt-handler."""
CREATED_BY: Final = "kubevirt.io/created-by"
MIGRATION_JOB_UID: Final = "kubevirt.io/migrationJobUID"
MIGRATION_JOB_NAME: Final = "kubevirt.io/migrationJobName"
NODE_NAME: Final = "kubevirt.io/nodeName"
TARGET_NODE_NAME: Final = "kubevirt.io/migrationTargetNodeName"
VMI_NAME: Final = "kubevirt.io/vmi-name"
HOSTNAME: Final = "kubernetes.io/hostname"

VMI_FINALIZERS: Final = (
    "kubevirt.io/virtualMachineControllerFinalize",
    "kubevirt.io/foregroundDeleteVirtualMachine",
)
VM_FINALIZER: Final = "kubevirt.io/virtualMachineControllerFinalize"
VMIM_FINALIZER: Final = "kubevirt.io/migrationJobFinalize"

LAUNCHER: Final = "virt-launcher"
HANDLER: Final = "virt-handler"

LAB_PORT: Final = "lab.vmredir.io/port"
"""Annotation of a virt-handler pod: where it serves streams, on its podIP."""
LAB_MIGRATION_ADDRESS: Final = "lab.vmredir.io/migration-address"
"""Annotation of a target pod: where its guest can be migrated to."""
LAB_GUEST_ENDED: Final = "lab.vmredir.io/guest-ended"
"""Annotation of a target pod whose guest ended before it ran: how."""
LAB_CRASH: Final = "lab.vmredir.io/crash"
"""Annotation of a launcher pod, with any value: its guest dies, as if killed."""
LAB_BANDWIDTH: Final = "lab.vmredir.io/bandwidth"
"""Annotation of a VMI: bytes per second of the copy in a migration."""


class Collection(enum.StrEnum):
    """A collection of objects, by the path of all of them."""

    NODES = "/api/v1/nodes"
    PODS = "/api/v1/pods"
    VMS = "/apis/kubevirt.io/v1/virtualmachines"
    VMIS = "/apis/kubevirt.io/v1/virtualmachineinstances"
    VMIMS = "/apis/kubevirt.io/v1/virtualmachineinstancemigrations"

    def of(self, namespace: str) -> str:
        """Return the path of the collection in one namespace."""
        group, _, plural = self.rpartition("/")
        return f"{group}/namespaces/{namespace}/{plural}" if namespace else str(self)

    def path(self, obj: JsonObject) -> str:
        """Return the path of an object of it."""
        return f"{self.of(namespace(obj))}/{name(obj)}"


def name(obj: JsonObject) -> str:
    """Return ``metadata.name``."""
    return str(metadata(obj).get("name", ""))


def namespace(obj: JsonObject) -> str:
    """Return ``metadata.namespace``; empty for what belongs to no namespace."""
    return str(metadata(obj).get("namespace", ""))


def uid(obj: JsonObject) -> str:
    """Return ``metadata.uid``."""
    return str(metadata(obj).get("uid", ""))


def version(obj: JsonObject) -> str:
    """Return ``metadata.resourceVersion``."""
    return str(metadata(obj).get("resourceVersion", ""))


def ref(obj: JsonObject) -> VmiRef:
    """Return which VMI it is; for a VM, which VMI it has."""
    return VmiRef(namespace(obj), name(obj))


def label(obj: JsonObject, key: str) -> str:
    """Return a label, empty if it is not there."""
    return str((metadata(obj).get("labels") or {}).get(key, ""))


def annotation(obj: JsonObject, key: str) -> str | None:
    """Return an annotation, None if it is not there."""
    value = (metadata(obj).get("annotations") or {}).get(key)
    return None if value is None else str(value)


def deleting(obj: JsonObject) -> bool:
    """Return whether somebody deleted it, and finalizers or a grace period keep it."""
    return "deletionTimestamp" in metadata(obj)


def finalizers(obj: JsonObject) -> list[str]:
    """Return ``metadata.finalizers``."""
    return list(metadata(obj).get("finalizers") or ())


def spec(obj: JsonObject) -> dict[str, Any]:
    """Return ``spec``, empty if there is none."""
    return obj.get("spec") or {}


def status(obj: JsonObject) -> dict[str, Any]:
    """Return ``status``, empty if there is none."""
    return obj.get("status") or {}


def phase(obj: JsonObject) -> str:
    """Return ``status.phase``, empty at first."""
    return str(status(obj).get("phase") or "")


def is_final(obj: JsonObject) -> bool:
    """Return whether a pod, a VMI or a migration has come to its end."""
    return phase(obj) in ("Succeeded", "Failed")


def condition(obj: JsonObject, kind: str) -> dict[str, Any]:
    """Return the condition of that type, empty if it is not there."""
    conditions = status(obj).get("conditions") or ()
    return next((item for item in conditions if item.get("type") == kind), {})


def is_ready(obj: JsonObject) -> bool:
    """Return whether condition Ready is true."""
    return condition(obj, "Ready").get("status") == "True"


def migration_state(vmi: JsonObject) -> dict[str, Any]:
    """Return ``status.migrationState`` of a VMI, empty if it never migrated."""
    return status(vmi).get("migrationState") or {}
