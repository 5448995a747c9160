"""What creating, changing and deleting an object means: Kubernetes' generic registry.

Source: k8s.io/apiserver/pkg/registry/generic/registry/store.go, and the strategies of the
types; texts measured on kube-apiserver 1.36.
"""

from __future__ import annotations

import re
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import patches
from .objects import Json, dig, metadata, timestamp
from .resources import LEASES, NAMESPACES, PODS, Resource
from .status import (
    FieldError,
    Subject,
    already_exists,
    bad_request,
    conflict,
    invalid,
    not_found,
)

if TYPE_CHECKING:
    from .store import Store

_NAME_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_NAME_SUFFIX_LENGTH: Final = 5
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    f"for validation is '{_NAME.pattern}')"
)
_SYSTEM_FIELDS: Final = (
    "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation",
    "name", "namespace", "uid", "generateName",
)  # fmt: skip
"""Metadata that an update keeps as it is."""

_POD_GRACE_S: Final = 30


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """metav1.DeleteOptions, as much as matters here.

    Attributes:
        uid: Delete only the object with this uid; empty for any.
        resource_version: Delete only this version; empty for any.
        grace_s: Seconds that a pod gets to end; None for its own choice.
    """

    uid: str = ""
    resource_version: str = ""
    grace_s: int | None = None

    @classmethod
    def parse(cls, body: Json, query_grace: str = "") -> DeleteOptions:
        """Read the body of a DELETE, empty if there was none, and ``gracePeriodSeconds``.

        Raises:
            Refusal: 400.
        """
        grace = body.get("gracePeriodSeconds")
        if query_grace:
            if not query_grace.isdecimal():
                raise bad_request(f'strconv.ParseInt: parsing "{query_grace}": invalid syntax')
            grace = int(query_grace)
        preconditions = body.get("preconditions") or {}
        return cls(
            preconditions.get("uid") or "", preconditions.get("resourceVersion") or "", grace
        )


class Registry:
    """Writes to the store by the rules.

    Args:
        store: Where the objects are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """Return an object.

        Raises:
            Refusal: 404.
        """
        if (found := self._store.get(resource, namespace, name)) is None:
            raise not_found(resource.subject, name)
        return found

    def create(self, resource: Resource, namespace: str, body: Json) -> Json:
        """Create an object and return it.

        Raises:
            Refusal: If it cannot be; nothing is written then.
        """
        meta = dict(metadata(body))
        _check_type(resource, body, meta.get("name", ""))
        self._check_namespace(resource, namespace, meta)
        if not meta.get("name"):
            if not meta.get("generateName"):
                raise _invalid_name(
                    resource,
                    "",
                    "Required value: name or generateName is required",
                    "FieldValueRequired",
                )
            meta["name"] = meta["generateName"] + "".join(
                secrets.choice(_NAME_LETTERS) for _ in range(_NAME_SUFFIX_LENGTH)
            )
        name = meta["name"]
        if not _NAME.fullmatch(name):
            raise _invalid_name(resource, name, f'Invalid value: "{name}": {_NAME_RULE}')
        if self._store.get(resource, namespace, name) is not None:
            raise already_exists(resource.subject, name)
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
            meta.pop(key, None)
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": timestamp(), "generation": 1}
        if resource.namespaced:
            meta["namespace"] = namespace
        obj = {
            **body,
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": meta,
        }
        return self._store.put(resource, _initial(resource, obj))

    def update(
        self, resource: Resource, namespace: str, name: str, body: Json, subresource: str = ""
    ) -> Json:
        """Replace an object, or its status, and return it.

        Raises:
            Refusal: If it cannot be; nothing is written then.
        """
        asked = metadata(body)
        _check_type(resource, body, name)
        if asked.get("name", name) != name:
            raise bad_request(
                f"the name of the object ({asked.get('name')}) does not match the name on the "
                f"URL ({name})"
            )
        self._check_namespace(resource, namespace, dict(asked), must_exist=False)
        old = self.get(resource, namespace, name)
        unconditional = not resource.custom and resource is not LEASES
        if not asked.get("resourceVersion") and not unconditional:
            error = FieldError(
                "metadata.resourceVersion", "Invalid value: 0: must be specified for an update"
            )
            raise invalid(resource.subject, name, [error])
        return self._replace(resource, old, body, subresource)

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: tuple[str, bytes],
        subresource: str = "",
    ) -> Json:
        """Apply a patch and return the object.

        Args:
            resource: Type of the object.
            namespace: Its namespace.
            name: Its name.
            change: Media type and body of the patch.
            subresource: ``status``, or empty.

        Raises:
            Refusal: If it cannot be applied; nothing is written then.
        """
        old = self.get(resource, namespace, name)
        media_type, patch = change
        new = patches.apply(media_type, old, patch)
        _check_type(resource, new, name)
        if (given := metadata(new).get("name")) != name:
            raise bad_request(
                f"the name of the object ({given}) does not match the name on the URL ({name})"
            )
        return self._replace(resource, old, new, subresource)

    def bind(self, namespace: str, name: str, binding: Json) -> Json:
        """Give a pod the node that a v1.Binding names, and return the pod.

        Raises:
            Refusal: 404, or 409 if it has one.
        """
        pod = self.get(PODS, namespace, name)
        if taken := dig(pod, "spec", "nodeName"):
            reason = f'pod {name} is already assigned to node "{taken}"'
            raise conflict(Subject("", "pods/binding"), name, reason)
        scheduled = {"type": "PodScheduled", "status": "True"}
        others = dig(pod, "status", "conditions") or ()
        conditions = [each for each in others if each.get("type") != "PodScheduled"]
        bound = {
            **pod,
            "spec": {**pod["spec"], "nodeName": dig(binding, "target", "name")},
            "status": {**pod.get("status", {}), "conditions": [*conditions, scheduled]},
        }
        return self._store.put(PODS, bound)

    def delete(
        self, resource: Resource, namespace: str, name: str, options: DeleteOptions
    ) -> tuple[Json, bool]:
        """Delete an object, or mark it for whoever must finish it first.

        Returns:
            The object as it is now, and whether it is gone.

        Raises:
            Refusal: 404, or 409 for a precondition.
        """
        obj = self.get(resource, namespace, name)
        _check_preconditions(resource, obj, options)
        grace_s = _grace_s(resource, obj, options)
        meta = metadata(obj)
        if not _held(obj) and not grace_s:
            self._store.remove(resource, namespace, name)
            return obj, True
        if meta.get("deletionTimestamp"):
            return obj, False
        meta = {
            **meta,
            "deletionTimestamp": timestamp(after_s=grace_s),
            "deletionGracePeriodSeconds": grace_s,
            "generation": meta.get("generation", 1) + 1,
        }
        obj = {**obj, "metadata": meta}
        if resource is NAMESPACES:
            obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}
        return self._store.put(resource, obj), False

    def _check_namespace(
        self, resource: Resource, namespace: str, meta: Json, *, must_exist: bool = True
    ) -> None:
        if resource.namespaced and meta.get("namespace", namespace) != namespace:
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )
        known = self._store.get(NAMESPACES, "", namespace) is not None
        if resource.namespaced and must_exist and not known:
            raise not_found(Subject("", "namespaces"), namespace)

    def _replace(self, resource: Resource, old: Json, new: Json, subresource: str) -> Json:
        old_meta, asked = metadata(old), metadata(new)
        name = old_meta["name"]
        version = asked.get("resourceVersion")
        if version and version != old_meta["resourceVersion"]:
            raise conflict(resource.subject, name)
        if (uid := asked.get("uid")) and uid != old_meta["uid"]:
            error = FieldError("metadata.uid", f'Invalid value: "{uid}": field is immutable')
            raise invalid(resource.kind_subject, name, [error])
        obj = _settled(resource, old, new, subresource)
        if obj == old:
            return old
        meta = obj["metadata"]
        if (
            meta.get("deletionTimestamp")
            and not _held(obj)
            and not (meta.get("deletionGracePeriodSeconds"))
        ):
            self._store.remove(resource, meta.get("namespace", ""), name)
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


def _check_type(resource: Resource, body: Json, name: str) -> None:
    """Check apiVersion and kind; Kubernetes' own types may leave them out."""
    version, kind = body.get("apiVersion", ""), body.get("kind", "")
    if not resource.custom and not version and not kind:
        return
    if version != resource.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    if kind != resource.kind:
        if not resource.custom:
            raise bad_request(
                f'{kind} in version "{version}" cannot be handled as a {resource.kind}: '
                f"converting ({version}.{kind}) to ({resource.api_version}.{resource.kind}): "
                "unknown conversion"
            )
        error = FieldError("kind", f'Invalid value: "{kind}": must be {resource.kind}')
        raise invalid(Subject(resource.group, kind), name, [error])


def _invalid_name(
    resource: Resource, name: str, message: str, reason: str = "FieldValueInvalid"
) -> Exception:
    return invalid(resource.kind_subject, name, [FieldError("metadata.name", message, reason)])


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
    meta["resourceVersion"] = old_meta["resourceVersion"]
    obj |= {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
    if _content(resource, obj) != _content(resource, old):
        meta["generation"] = old_meta.get("generation", 1) + 1
    for key in ("annotations", "finalizers", "labels", "ownerReferences"):
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


def _check_preconditions(resource: Resource, obj: Json, options: DeleteOptions) -> None:
    meta = metadata(obj)
    if options.uid and options.uid != meta["uid"]:
        raise conflict(
            resource.kind_subject,
            meta["name"],
            f"the UID in the precondition ({options.uid}) does not match the UID in record "
            f"({meta['uid']}). The object might have been deleted and then recreated",
        )
    if options.resource_version and options.resource_version != meta["resourceVersion"]:
        raise conflict(
            resource.kind_subject,
            meta["name"],
            f"the ResourceVersion in the precondition ({options.resource_version}) does not "
            f"match the ResourceVersion in record ({meta['resourceVersion']}). The object might "
            "have been modified",
        )
