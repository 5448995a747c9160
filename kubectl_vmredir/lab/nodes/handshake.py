"""The HTTP of a virt-handler: one request for a stream, answered by 101 or by a line of text.

Sources: RFC 6455 section 4.2; gorilla/websocket 1.5.4, server.go; go-restful, Response.WriteError.
Pure.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http import HTTPStatus

MAX_HEAD_BYTES: Final = 64 * 1024
HEAD_END: Final = b"\r\n\r\n"
SUBPROTOCOL: Final = "plain.kubevirt.io"

_ACCEPT_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request.

    Attributes:
        method: For instance ``GET``.
        path: Segments of the path, decoded.
        query: Parameters; of a repeated one the first.
        headers: By name in lower case; repeated ones joined by commas.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, head: bytes) -> Self:
        """Read a head, without the empty line at its end.

        Raises:
            ValueError: If it is none.
        """
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, protocol = first.split(" ")
        if not protocol.startswith("HTTP/1."):
            raise ValueError(f"protocol {protocol!r}")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError(f"header line {line!r}")
            key = name.strip().lower()
            headers[key] = f"{headers[key]},{value.strip()}" if key in headers else value.strip()
        parts = urlsplit(target)
        path = tuple(unquote(segment) for segment in parts.path.strip("/").split("/"))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return cls(method, path, query, headers)

    @property
    def is_handshake(self) -> bool:
        """Whether it asks for a websocket, and in a version that there is."""
        return (
            self.method == "GET"
            and self._has_token("connection", "upgrade")
            and self._has_token("upgrade", "websocket")
            and self._has_token("sec-websocket-version", "13")
            and bool(self.headers.get("sec-websocket-key"))
        )

    def accepted(self) -> bytes:
        """Return the 101 for a handshake."""
        key = self.headers["sec-websocket-key"].encode("latin-1")
        digest = hashlib.sha1(key + _ACCEPT_GUID, usedforsecurity=False).digest()
        head = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n"
        )
        if self._has_token("sec-websocket-protocol", SUBPROTOCOL):
            head += f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"
        return f"{head}\r\n".encode()

    def _has_token(self, header: str, token: str) -> bool:
        words = self.headers.get(header, "").split(",")
        return token in (word.strip().lower() for word in words)


def refusal(status: HTTPStatus, text: str = "") -> bytes:
    """Return a whole answer that ends the connection."""
    body = text.encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
    if body:
        head += "Content-Type: text/plain; charset=utf-8\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
