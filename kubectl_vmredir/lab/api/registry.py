"""What creating, changing and deleting an object means: Kubernetes' generic registry.

Source: k8s.io/apiserver/pkg/registry/generic/registry/store.go, and the strategies of the
types; texts measured on kube-apiserver 1.36.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from . import admission
from .objects import Json, dig, metadata, timestamp
from .resources import LEASES, NAMESPACES, PODS, Resource, Target
from .status import FieldError, already_exists, conflict, invalid, not_found
from .validation import (
    DeleteOptions,
    check_name,
    check_namespace,
    check_preconditions,
    check_type,
    new_name,
)

if TYPE_CHECKING:
    from .patches import Patch
    from .rbac import User
    from .store import Store

_SYSTEM_FIELDS: Final = (
    "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName",
    "generation", "managedFields", "name", "namespace", "resourceVersion", "selfLink", "uid",
)  # fmt: skip
"""Metadata that belongs to the server."""
_NO_EMPTY_FIELDS: Final = ("annotations", "finalizers", "labels", "ownerReferences")
"""Metadata that is left out when it is empty."""

_POD_GRACE_S: Final = 30


class Registry:
    """Writes to the store by the rules.

    Args:
        store: Where the objects are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, target: Target) -> Json:
        """Return an object.

        Raises:
            Refusal: 404.
        """
        found = self._store.get(target.resource, target.namespace, target.name)
        if found is None:
            raise not_found(target.resource.subject, target.name)
        return found

    def create(self, target: Target, body: Json, user: User) -> Json:
        """Create an object and return it.

        Raises:
            Refusal: If it cannot be; nothing is written then.
        """
        resource, namespace = target.resource, target.namespace
        check_type(resource, body, metadata(body).get("name", ""))
        check_namespace(target, body)
        if resource.namespaced and self._store.get(NAMESPACES, "", namespace) is None:
            raise not_found(NAMESPACES.subject, namespace)
        body = admission.at_create(self._store, resource, namespace, body, user)
        name = new_name(resource, metadata(body))
        if self._store.get(resource, namespace, name) is not None:
            raise already_exists(resource.subject, name)
        meta = {
            key: value
            for key, value in metadata(body).items()
            if key not in _SYSTEM_FIELDS and (value or key not in _NO_EMPTY_FIELDS)
        } | {
            "name": name,
            "uid": str(uuid.uuid4()),
            "creationTimestamp": timestamp(),
            "generation": 1,
        }
        if prefix := metadata(body).get("generateName"):
            meta["generateName"] = prefix
        if resource.namespaced:
            meta["namespace"] = namespace
        # Twice: first for the order of the keys, then for their values.
        known = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
        return self._store.put(resource, _initial(resource, known | body | known))

    def update(self, target: Target, body: Json, user: User) -> Json:
        """Replace an object, or its status, and return it.

        Raises:
            Refusal: If it cannot be; nothing is written then.
        """
        check_type(target.resource, body, target.name)
        check_name(target, body)
        check_namespace(target, body)
        old = self.get(target)
        unconditional = not target.resource.custom and target.resource is not LEASES
        if not metadata(body).get("resourceVersion") and not unconditional:
            error = FieldError(
                "metadata.resourceVersion", "Invalid value: 0: must be specified for an update"
            )
            raise invalid(target.resource.subject, target.name, [error])
        return self._replace(target, old, body, user)

    def patch(self, target: Target, change: Patch, user: User) -> Json:
        """Apply a patch and return the object.

        Raises:
            Refusal: If it cannot be applied; nothing is written then.
        """
        old = self.get(target)
        new = change.apply(old)
        check_type(target.resource, new, target.name)
        check_name(target, new)
        return self._replace(target, old, new, user)

    def delete(self, target: Target, options: DeleteOptions) -> tuple[Json, bool]:
        """Delete an object, or mark it for whoever must finish it first.

        Returns:
            The object as it is now, and whether it is gone.

        Raises:
            Refusal: 404, or 409 for a precondition.
        """
        resource = target.resource
        obj = self.get(target)
        check_preconditions(resource, obj, options)
        grace_s = _grace_s(resource, obj, options)
        meta = metadata(obj)
        gone = not _held(obj) and not grace_s
        if meta.get("deletionTimestamp") and not gone:
            return obj, False
        marked = {
            **meta,
            "deletionTimestamp": timestamp(after_s=grace_s),
            "deletionGracePeriodSeconds": grace_s,
            "generation": meta.get("generation", 1) + 1,
        }
        obj = {**obj, "metadata": marked}
        if gone:
            self._store.remove(resource, target.namespace, target.name)
            return obj, True
        if resource is NAMESPACES:
            del marked["deletionGracePeriodSeconds"]
            obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}
        return self._store.put(resource, obj), False

    def _replace(self, target: Target, old: Json, new: Json, user: User) -> Json:
        resource, name = target.resource, target.name
        old_meta, asked = metadata(old), metadata(new)
        version = asked.get("resourceVersion")
        if version and version != old_meta["resourceVersion"]:
            raise conflict(resource.subject, name)
        if (uid := asked.get("uid")) and uid != old_meta["uid"]:
            error = FieldError("metadata.uid", f'Invalid value: "{uid}": field is immutable')
            raise invalid(resource.kind_subject, name, [error])
        obj = _settled(resource, old, new, target.subresource)
        obj = admission.at_update(resource, old, obj, user)
        if obj == old:
            return old
        meta = metadata(obj)
        deleted = "deletionTimestamp" in meta and not meta.get("deletionGracePeriodSeconds")
        if deleted and not _held(obj):
            self._store.remove(resource, target.namespace, name)
            return obj
        return self._store.put(resource, obj)


def success(resource: Resource, obj: Json) -> Json:
    """Return the Status of a deletion that is complete."""
    meta = metadata(obj)
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": resource.subject.details(meta["name"]) | {"uid": meta["uid"]},
    }


def _initial(resource: Resource, obj: Json) -> Json:
    """Return a new object as its type's strategy leaves it."""
    if resource.custom and resource.has_status:
        obj.pop("status", None)
    if resource is NAMESPACES:
        labels = metadata(obj).get("labels") or {}
        obj["metadata"]["labels"] = {
            **labels,
            "kubernetes.io/metadata.name": obj["metadata"]["name"],
        }
        obj["spec"] = {"finalizers": ["kubernetes"]}
        obj["status"] = {"phase": "Active"}
    if resource is PODS:
        if not dig(obj, "spec", "containers"):
            error = FieldError("spec.containers", "Required value", "FieldValueRequired")
            raise invalid(resource.kind_subject, obj["metadata"]["name"], [error])
        obj["status"] = {"phase": "Pending", "qosClass": "BestEffort"}
    return obj


def _settled(resource: Resource, old: Json, new: Json, subresource: str) -> Json:
    """Return the new object with everything that this request may not change put back."""
    old_meta = metadata(old)
    if subresource == "status":
        meta = dict(old_meta) if resource.custom else dict(metadata(new))
        obj = {**old, "status": new.get("status", {})}
    else:
        meta = dict(metadata(new))
        obj = dict(new)
        if resource.has_status:
            obj.pop("status", None)
            if "status" in old:
                obj["status"] = old["status"]
    for key in _SYSTEM_FIELDS:
        meta.pop(key, None)
        if key in old_meta:
            meta[key] = old_meta[key]
    obj |= {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
    if _content(resource, obj) != _content(resource, old):
        meta["generation"] = old_meta.get("generation", 1) + 1
    for key in _NO_EMPTY_FIELDS:
        if not meta.get(key, True):
            del meta[key]
    return obj


def _content(resource: Resource, obj: Json) -> Json:
    """Return what counts for ``generation``."""
    out = ("metadata", "status") if resource.has_status else ("metadata",)
    return {key: value for key, value in obj.items() if key not in out}


def _held(obj: Json) -> bool:
    """Return whether somebody must let go of the object before it may vanish."""
    return bool(metadata(obj).get("finalizers") or dig(obj, "spec", "finalizers"))


def _grace_s(resource: Resource, obj: Json, options: DeleteOptions) -> int:
    """Return how long a pod lives on after its deletion; nothing else does.

    A pod that was never given to a node, or has ended, is gone at once. The kubelet ends the
    others, and deletes them again without grace.
    """
    ended = dig(obj, "status", "phase") in ("Succeeded", "Failed")
    if resource is not PODS or ended or not dig(obj, "spec", "nodeName"):
        return 0
    if options.grace_s is not None:
        return options.grace_s
    wished = dig(obj, "spec", "terminationGracePeriodSeconds")
    return _POD_GRACE_S if wished is None else int(wished)
