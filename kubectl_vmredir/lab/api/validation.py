"""Whether an object may be written as it is asked for: names, types, preconditions.

Texts measured on kube-apiserver 1.36.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .objects import Json, metadata, to_wire
from .status import FieldError, Subject, bad_request, conflict, invalid

if TYPE_CHECKING:
    from .resources import Resource, Target

_NAME_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_NAME_SUFFIX_LENGTH: Final = 5
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    f"for validation is '{_NAME.pattern}')"
)


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


def check_type(resource: Resource, body: Json, name: str) -> None:
    """Check apiVersion, kind and metadata; Kubernetes' own types may leave the first two out.

    Raises:
        Refusal: 400 or 422.
    """
    _check_metadata(resource, body)
    version, kind = body.get("apiVersion", ""), body.get("kind", "")
    if not resource.custom and not version and not kind:
        return
    if not kind:
        text = to_wire(body)
        raise bad_request(
            f"the object provided is unrecognized (must be of type {resource.kind}): "
            f"Object 'Kind' is missing in '{text}' ({text})"
        )
    if version != resource.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version "
            f"({resource.api_version})"
        )
    if kind != resource.kind:
        if not resource.custom:
            internal = resource.group.partition(".")[0] or "core"
            raise bad_request(
                f'{kind} in version "{version}" cannot be handled as a {resource.kind}: '
                f"converting ({version}.{kind}) to ({internal}.{resource.kind}): "
                "unknown conversion"
            )
        error = FieldError("kind", f'Invalid value: "{kind}": must be {resource.kind}')
        raise invalid(Subject(resource.group, kind), name, [error])


def _check_metadata(resource: Resource, body: Json) -> None:
    """Check the types of what the server itself reads."""
    meta = metadata(body)
    for key, wanted in (
        ("annotations", dict),
        ("finalizers", list),
        ("generateName", str),
        ("labels", dict),
        ("name", str),
        ("namespace", str),
        ("ownerReferences", list),
    ):
        found = meta.get(key)
        values = found.values() if isinstance(found, dict) else ()
        if isinstance(found, wanted | None) and all(isinstance(each, str) for each in values):
            continue
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a '
            f"{resource.kind}: json: cannot unmarshal into Go struct field "
            f"ObjectMeta.metadata.{key}"
        )


def check_name(target: Target, body: Json) -> None:
    """Check that an object has the name that the path says.

    Raises:
        Refusal: 400.
    """
    given = metadata(body).get("name")
    if given != target.name:
        raise bad_request(
            f"the name of the object ({given or ''}) does not match the name on the URL "
            f"({target.name})"
        )


def check_namespace(target: Target, body: Json) -> None:
    """Check that an object is of the namespace that the path says.

    Raises:
        Refusal: 400.
    """
    given = metadata(body).get("namespace") or target.namespace
    if target.resource.namespaced and given != target.namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def new_name(resource: Resource, meta: Json) -> str:
    """Return the name of a new object, made up if it only has a prefix.

    Raises:
        Refusal: 422.
    """
    name, prefix = str(meta.get("name") or ""), str(meta.get("generateName") or "")
    if not name and not prefix:
        error = FieldError(
            "metadata.name",
            "Required value: name or generateName is required",
            "FieldValueRequired",
        )
        raise invalid(resource.kind_subject, "", [error])
    if not name:
        name = prefix + "".join(secrets.choice(_NAME_LETTERS) for _ in range(_NAME_SUFFIX_LENGTH))
    if not _NAME.fullmatch(name):
        error = FieldError("metadata.name", f'Invalid value: "{name}": {_NAME_RULE}')
        raise invalid(resource.kind_subject, name, [error])
    return name


def check_preconditions(resource: Resource, obj: Json, options: DeleteOptions) -> None:
    """Check that an object is the one that is to be deleted.

    Raises:
        Refusal: 409.
    """
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
