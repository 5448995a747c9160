"""What virt-api's admission webhooks do to new objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .objects import Json, metadata
from .resources import VMIMS, VMIS, VMS, Resource

if TYPE_CHECKING:
    from .store import Store

_FINALIZERS: Final = {
    VMS: "kubevirt.io/virtualMachineControllerFinalize",
    VMIS: "foregroundDeleteVirtualMachine",
    VMIMS: "kubevirt.io/migrationJobFinalize",
}


def admit(store: Store, resource: Resource, obj: Json) -> Json:
    """Return a new object as the webhooks leave it."""
    if (finalizer := _FINALIZERS.get(resource)) is None:
        return obj
    meta = metadata(obj)
    finalizers = [*meta.get("finalizers", ())]
    if finalizer not in finalizers:
        finalizers.append(finalizer)
    return {**obj, "metadata": {**meta, "finalizers": finalizers}}
