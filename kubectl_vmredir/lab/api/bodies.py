"""Bodies of requests: bytes with a limit, and the objects in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import yaml

from .status import bad_request, unsupported_media_type

if TYPE_CHECKING:
    from aiohttp import web

    from .objects import Json

MEDIA_TYPES: Final = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
)
"""What kube-apiserver says it takes and gives; the last one it does not, here."""

_MAX_BODY_BYTES: Final = 3 << 20
"""kube-apiserver's --max-resource-write-bytes."""


async def read_body(request: web.BaseRequest) -> bytes:
    """Return the body of a request.

    Raises:
        Refusal: 400 if it is too long.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > _MAX_BODY_BYTES:
            raise bad_request(f"the request body is larger than {_MAX_BODY_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def decode_object(body: bytes, media_type: str, kind: str) -> Json:
    """Read an object from a body that should hold one of a kind.

    Raises:
        Refusal: 415 for an unknown format, 400 for no object.
    """
    if media_type not in ("application/json", "application/yaml"):
        raise unsupported_media_type(MEDIA_TYPES)
    try:
        obj = json.loads(body) if media_type == "application/json" else yaml.safe_load(body)
    except (ValueError, yaml.YAMLError) as exc:
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get "
            f"version/kind; json parse error: {go_error(exc)} ({body[:64].hex()})"
        ) from exc
    if not isinstance(obj, dict):
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get "
            "version/kind; json parse error: json: cannot unmarshal into an object"
        )
    return obj


async def read_object(request: web.BaseRequest, kind: str) -> Json:
    """Return the object in the body of a request, which should be of a kind.

    Raises:
        Refusal: 415 or 400.
    """
    return decode_object(await read_body(request), request.content_type, kind)


def go_error(exc: Exception) -> str:
    """Return what Go's decoder says about broken JSON, as far as it is known here."""
    if not isinstance(exc, json.JSONDecodeError):
        return str(exc)
    if exc.pos >= len(exc.doc):
        return "unexpected end of JSON input"
    return f"invalid character '{exc.doc[exc.pos]}' looking for beginning of value"
