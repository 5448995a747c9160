"""The server's side of a websocket handshake, as gorilla/websocket in virt-api does it.

Source: gorilla/websocket, server.go, Upgrader.Upgrade; RFC 6455 section 4.2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

SUBPROTOCOL: Final = "plain.kubevirt.io"
_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16


class NotAHandshake(Exception):
    """The request asks for no websocket, or not in a way that can be met.

    Attributes:
        status: HTTP status of the answer.
        message: What is missing.
    """

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def wants_upgrade(headers: CIMultiDictProxy[str]) -> bool:
    """Return whether kube-apiserver takes a request for one that switches protocols."""
    return _has_token(headers, "Connection", "upgrade") and "Upgrade" in headers


def accept(headers: CIMultiDictProxy[str]) -> bytes:
    """Return the 101 for a handshake.

    Raises:
        NotAHandshake: If it is none; the first thing that is missing is told.
    """
    not_websocket = "websocket: the client is not using the websocket protocol: "
    if not _has_token(headers, "Connection", "upgrade"):
        raise NotAHandshake(
            HTTPStatus.BAD_REQUEST,
            f"{not_websocket}'upgrade' token not found in 'Connection' header",
        )
    if not _has_token(headers, "Upgrade", "websocket"):
        raise NotAHandshake(
            HTTPStatus.UPGRADE_REQUIRED,
            f"{not_websocket}'websocket' token not found in 'Upgrade' header",
        )
    if not _has_token(headers, "Sec-WebSocket-Version", "13"):
        raise NotAHandshake(
            HTTPStatus.BAD_REQUEST,
            "websocket: unsupported version: 13 not found in 'Sec-Websocket-Version' header",
        )
    key = headers.get("Sec-WebSocket-Key", "")
    if not _is_key(key):
        raise NotAHandshake(
            HTTPStatus.BAD_REQUEST,
            "websocket: not a websocket handshake: 'Sec-WebSocket-Key' header must be Base64 "
            "encoded value of 16-byte in length",
        )
    digest = hashlib.sha1(key.encode() + _ACCEPT_GUID, usedforsecurity=False).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
    ]
    if _has_token(headers, "Sec-WebSocket-Protocol", SUBPROTOCOL):
        lines.append(f"Sec-WebSocket-Protocol: {SUBPROTOCOL}")
    return "\r\n".join([*lines, "", ""]).encode()


def _has_token(headers: CIMultiDictProxy[str], name: str, token: str) -> bool:
    values = headers.getall(name, ())
    return any(part.strip().lower() == token for value in values for part in value.split(","))


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False
