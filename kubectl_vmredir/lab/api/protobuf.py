"""The one thing that kubectl sends in protobuf and takes no other way: reviews.

Source: k8s.io/api/authorization/v1/generated.proto and runtime.Unknown of apimachinery. Answers
are JSON, which kubectl takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .status import bad_request

if TYPE_CHECKING:
    from .objects import Json

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"

_MAGIC: Final = b"k8s\0"
_UNKNOWN_RAW: Final = 2
_REVIEW_SPEC: Final = 2
_RESOURCE: Final = {
    1: "namespace",
    2: "verb",
    3: "group",
    4: "version",
    5: "resource",
    6: "subresource",
    7: "name",
}
_NON_RESOURCE: Final = {1: "path", 2: "verb"}


def decode_review(body: bytes) -> Json:
    """Return a SelfSubjectAccessReview; of a SelfSubjectReview, which asks nothing, an empty one.

    Raises:
        Refusal: 400.
    """
    if not body.startswith(_MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message")
    try:
        review = _fields(_fields(body[len(_MAGIC) :]).get(_UNKNOWN_RAW, b""))
        spec = _fields(review.get(_REVIEW_SPEC, b""))
        asked: Json = {}
        for number, key, names in (
            (1, "resourceAttributes", _RESOURCE),
            (2, "nonResourceAttributes", _NON_RESOURCE),
        ):
            if number in spec:
                found = _fields(spec[number])
                asked[key] = {
                    name: found[at].decode() for at, name in names.items() if found.get(at)
                }
    except (IndexError, ValueError) as exc:
        raise bad_request(f"unable to decode the protobuf message: {exc}") from exc
    return {"spec": asked}


def _fields(message: bytes) -> dict[int, bytes]:
    """Return the length-delimited fields of a message; the last of a repeated one.

    Raises:
        IndexError: If it ends too early.
        ValueError: If there is something in it that cannot be skipped.
    """
    found: dict[int, bytes] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        match kind:
            case 0:
                _, at = _varint(message, at)
            case 2:
                length, at = _varint(message, at)
                if at + length > len(message):
                    raise IndexError(f"field {number} ends too early")
                found[number] = message[at : at + length]
                at += length
            case _:
                raise ValueError(f"wire type {kind}")
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
