"""Refusals, with the exact texts and bodies of kube-apiserver and virt-api.

Source: k8s.io/apimachinery/pkg/api/errors; measured on kube-apiserver 1.36
(tests/contract).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .objects import Json


class Refusal(Exception):
    """A request ends with a metav1.Status of failure.

    Attributes:
        code: HTTP status.
        reason: ``reason`` of the Status; empty for none.
        message: ``message`` of the Status.
        details: ``details`` of the Status; None leaves them out.
    """

    def __init__(self, code: int, reason: str, message: str, details: Json | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> Json:
        """Return the Status object, its keys in the order of the real one."""
        found: Json = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            found["reason"] = self.reason
        if self.details is not None:
            found["details"] = self.details
        return found | {"code": self.code}


@dataclass(frozen=True, slots=True)
class Subject:
    """What a refusal speaks of.

    Attributes:
        group: API group, empty for the core.
        kind: Plural of the resource, or a kind, as the real text has it.
    """

    group: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind

    def details(self, name: str = "") -> Json:
        """Return ``details`` of a Status about the object of that name."""
        parts = {"name": name, "group": self.group, "kind": self.kind}
        return {key: value for key, value in parts.items() if value}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One cause of an invalid object.

    Attributes:
        path: The field, for instance ``metadata.name``.
        message: What is wrong with it.
        reason: ``FieldValueInvalid`` and its like.
    """

    path: str
    message: str
    reason: str = field(default="FieldValueInvalid")


CONFLICT_TEXT: Final = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def bad_request(message: str) -> Refusal:
    """400: the request makes no sense."""
    return Refusal(HTTPStatus.BAD_REQUEST, "BadRequest", message)


def unauthorized() -> Refusal:
    """401: credentials were given, and nobody knows them."""
    return Refusal(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")


def forbidden(subject: Subject, name: str, why: str) -> Refusal:
    """403 for a resource."""
    named = f' "{name}"' if name else ""
    return Refusal(
        HTTPStatus.FORBIDDEN,
        "Forbidden",
        f"{subject}{named} is forbidden: {why}",
        subject.details(name),
    )


def forbidden_path(why: str) -> Refusal:
    """403 for a path that is no resource."""
    return Refusal(HTTPStatus.FORBIDDEN, "Forbidden", f"forbidden: {why}", {})


def not_found(subject: Subject, name: str) -> Refusal:
    """404: no such object."""
    return Refusal(
        HTTPStatus.NOT_FOUND, "NotFound", f'{subject} "{name}" not found', subject.details(name)
    )


def no_such_resource() -> Refusal:
    """404: no such resource type, or subresource."""
    return Refusal(
        HTTPStatus.NOT_FOUND,
        "NotFound",
        "the server could not find the requested resource",
        {},
    )


def method_not_allowed() -> Refusal:
    """405."""
    return Refusal(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        {},
    )


def not_acceptable() -> Refusal:
    """406: no representation that the client would take."""
    return Refusal(
        HTTPStatus.NOT_ACCEPTABLE,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml, "
        "application/vnd.kubernetes.protobuf",
    )


def already_exists(subject: Subject, name: str) -> Refusal:
    """409 at create."""
    return Refusal(
        HTTPStatus.CONFLICT,
        "AlreadyExists",
        f'{subject} "{name}" already exists',
        subject.details(name),
    )


def conflict(subject: Subject, name: str, why: str = CONFLICT_TEXT) -> Refusal:
    """409: stale resourceVersion, precondition, or the state does not allow it."""
    return Refusal(
        HTTPStatus.CONFLICT,
        "Conflict",
        f'Operation cannot be fulfilled on {subject} "{name}": {why}',
        subject.details(name),
    )


def expired(message: str) -> Refusal:
    """410: too old a resourceVersion or continue token."""
    return Refusal(HTTPStatus.GONE, "Expired", message)


def unsupported_media_type(accepted: Sequence[str]) -> Refusal:
    """415: the body is in a format that is not understood."""
    return Refusal(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted),
    )


def invalid(subject: Subject, name: str, errors: Sequence[FieldError]) -> Refusal:
    """422: the object is understood and wrong."""
    texts = [f"{error.path}: {error.message}" for error in errors]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    causes = [
        {"reason": error.reason, "message": error.message, "field": error.path} for error in errors
    ]
    return Refusal(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Invalid",
        f'{subject} "{name}" is invalid: {listed}',
        subject.details(name) | {"causes": causes},
    )


def rejected_patch() -> Refusal:
    """422: a JSON patch that cannot be applied; its text does not say why."""
    return Refusal(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Invalid",
        "the server rejected our request due to an error in our request",
        {},
    )


def internal_error(message: str) -> Refusal:
    """500."""
    return Refusal(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "InternalError",
        f"Internal error occurred: {message}",
        {"causes": [{"message": message}]},
    )


def version_too_large(asked: int, current: int) -> Refusal:
    """504: a resourceVersion from the future."""
    return Refusal(
        HTTPStatus.GATEWAY_TIMEOUT,
        "Timeout",
        f"Timeout: Too large resource version: {asked}, current: {current}",
        {
            "causes": [
                {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            ],
            "retryAfterSeconds": 1,
        },
    )
