"""What virt-api's admission webhooks do: fill objects in, and refuse some.

Source: KubeVirt, pkg/virt-api/webhooks; texts measured. They bind everybody but KubeVirt's own
accounts, and here the masters too, so that a test may set the stage.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from .objects import Json, dig, metadata, timestamp
from .rbac import MASTERS, User
from .resources import VMIMS, VMIS, VMS, Resource
from .roles import ACCOUNTS
from .status import Refusal

if TYPE_CHECKING:
    from .store import Store

_FINALIZERS: Final = {
    VMIS: "kubevirt.io/foregroundDeleteVirtualMachine",
    VMIMS: "kubevirt.io/migrationJobFinalize",
}
_VMI_NAME_LABEL: Final = "kubevirt.io/vmi-name"
_RESERVED_LABELS: Final = "kubevirt.io/"
_FINAL: Final = ("Succeeded", "Failed")


def is_trusted(user: User) -> bool:
    """Return whether the webhooks let a user do as it likes."""
    return user.name in ACCOUNTS or MASTERS in user.groups


def at_create(store: Store, resource: Resource, namespace: str, obj: Json, user: User) -> Json:
    """Return a new object as the webhooks leave it.

    Raises:
        Refusal: If one of them denies it.
    """
    if resource is VMS and dig(obj, "spec", "template") is None:
        raise _invalid("virtualmachines-mutator", "spec.template in body is required")
    if resource is VMIMS:
        _check_migration(store, namespace, obj)
    if (finalizer := _FINALIZERS.get(resource)) is None:
        return obj
    meta = dict(metadata(obj))
    meta["finalizers"] = list(dict.fromkeys([*meta.get("finalizers", ()), finalizer]))
    if resource is VMIMS:
        labels = meta.get("labels") or {}
        meta["labels"] = {**labels, _VMI_NAME_LABEL: obj["spec"]["vmiName"]}
        return {**obj, "metadata": meta}
    given = obj.get("status") or {} if is_trusted(user) else {}
    pending = {
        "phase": "Pending",
        "phaseTransitionTimestamps": [
            {"phase": "Pending", "phaseTransitionTimestamp": timestamp()}
        ],
        "runtimeUser": 107,
    }
    return {**obj, "metadata": meta, "status": given if "phase" in given else pending | given}


def at_update(resource: Resource, old: Json, new: Json, user: User) -> Json:
    """Return a changed object as the webhooks leave it.

    Raises:
        Refusal: If one of them denies it.
    """
    if resource is VMIMS and old.get("spec") != new.get("spec"):
        raise _invalid(
            "migration-update-validator",
            "update of Migration object's spec is restricted",
            "FieldValueNotSupported",
        )
    if resource is not VMIS or is_trusted(user):
        return new
    validator = "virtualmachineinstances-update-validator"
    if old.get("spec") != new.get("spec"):
        raise _invalid(validator, "update of VMI object is restricted", "FieldValueNotSupported")
    if _reserved(old) != _reserved(new):
        raise _invalid(
            validator,
            "modification of the following reserved kubevirt.io/ labels on a VMI object is "
            "prohibited",
            "FieldValueNotSupported",
        )
    # A status that somebody else writes is not refused, but forgotten.
    return {key: new[key] for key in new if key != "status"} | (
        {"status": old["status"]} if "status" in old else {}
    )


def _reserved(vmi: Json) -> Json:
    labels = metadata(vmi).get("labels") or {}
    return {key: labels[key] for key in labels if key.startswith(_RESERVED_LABELS)}


def _check_migration(store: Store, namespace: str, migration: Json) -> None:
    validator = "migration-create-validator"
    if not (name := dig(migration, "spec", "vmiName")):
        raise _invalid(validator, "vmiName is missing", "FieldValueRequired", field="spec.vmiName")
    if (vmi := store.get(VMIS, namespace, name)) is None:
        raise _denied(validator, f'the VMI "{namespace}/{name}" does not exist')
    if dig(vmi, "status", "phase") in _FINAL:
        raise _denied(validator, "Cannot migrate VMI in finalized state.")
    for condition in dig(vmi, "status", "conditions") or ():
        if condition.get("type") == "LiveMigratable" and condition.get("status") == "False":
            raise _denied(
                validator,
                f"Cannot migrate VMI, Reason: {condition.get('reason', '')}, "
                f"Message: {condition.get('message', '')}",
            )
    for other in store.list(VMIMS, namespace):
        if dig(other, "spec", "vmiName") == name and dig(other, "status", "phase") not in _FINAL:
            raise _denied(
                validator,
                f"in-flight migration detected. Active migration job ({metadata(other)['uid']}) "
                f"is currently already in progress for VMI {name}.",
            )


def _text(webhook: str, why: str) -> str:
    return f'admission webhook "{webhook}.kubevirt.io" denied the request: {why}'


def _denied(webhook: str, why: str) -> Refusal:
    return Refusal(HTTPStatus.BAD_REQUEST, "", _text(webhook, why))


def _invalid(webhook: str, why: str, reason: str = "", *, field: str = "") -> Refusal:
    cause = {"reason": reason, "message": why, "field": field}
    details = {"causes": [{key: value for key, value in cause.items() if value}]}
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", _text(webhook, why), details)
