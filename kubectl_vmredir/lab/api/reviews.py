"""Questions about oneself: SelfSubjectReview and SelfSubjectAccessReview."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import protobuf
from .bodies import decode_object
from .objects import Json, timestamp
from .requests import RequestInfo
from .status import FieldError, Subject, invalid, method_not_allowed

if TYPE_CHECKING:
    from .rbac import Rbac, User

_KINDS: Final = {
    "selfsubjectreviews": "SelfSubjectReview",
    "selfsubjectaccessreviews": "SelfSubjectAccessReview",
}
RESOURCES: Final = {
    ("authentication.k8s.io", "v1", "selfsubjectreviews"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"),
}
"""Group, version and plural of what is answered here."""


def review(info: RequestInfo, user: User, asked: tuple[str, bytes], rbac: Rbac) -> Json:
    """Return the answer to a review.

    Args:
        info: The request.
        user: Who asks.
        asked: Media type and body of the request.
        rbac: Who may do what.

    Raises:
        Refusal: 405, or 4xx for a question that is none.
    """
    if info.verb != "create":
        raise method_not_allowed()
    media_type, body = asked
    if media_type == protobuf.MEDIA_TYPE:
        question = protobuf.decode_review(body)
    else:
        question = decode_object(body, media_type, _KINDS[info.resource])
    if info.resource == "selfsubjectreviews":
        return _self_subject(user)
    return _access(user, question, rbac)


def _self_subject(user: User) -> Json:
    known: Json = {"username": user.name}
    if user.uid:
        known["uid"] = user.uid
    known["groups"] = list(user.groups)
    if user.extra:
        known["extra"] = {key: list(values) for key, values in user.extra.items()}
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": timestamp()},
        "status": {"userInfo": known},
    }


def _access(user: User, body: Json, rbac: Rbac) -> Json:
    spec = body.get("spec") or {}
    match spec.get("resourceAttributes"), spec.get("nonResourceAttributes"):
        case dict() as resource, None:
            asked = RequestInfo(
                verb=resource.get("verb", ""),
                path="",
                group=resource.get("group", ""),
                version=resource.get("version", ""),
                namespace=resource.get("namespace", ""),
                resource=resource.get("resource", "*"),
                subresource=resource.get("subresource", ""),
                name=resource.get("name", ""),
            )
        case None, dict() as plain:
            asked = RequestInfo(verb=plain.get("verb", ""), path=plain.get("path", ""))
        case _:
            message = (
                "Invalid value: null: exactly one of nonResourceAttributes or "
                "resourceAttributes must be specified"
            )
            error = FieldError("spec.resourceAttributes", message)
            raise invalid(Subject("authorization.k8s.io", ""), "", [error])
    decision = rbac.decide(user, asked)
    status: Json = {"allowed": decision.allowed}
    if decision.reason:
        status["reason"] = decision.reason
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": spec,
        "status": status,
    }
