"""How virt-api dials a virt-handler: TLS with its own certificate, then a websocket handshake.

Source: KubeVirt, pkg/virt-api/rest/dialers.go, client-go/kubecli/handler.go and gorilla/websocket;
texts measured (docs/facts/kubevirt.md, "Refusals").
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self, cast

import aiofastnet

from .pki import HANDLER_DNS
from .status import Refusal, internal_error

_MAX_HEAD_BYTES: Final = 64 * 1024
_HEAD_END: Final = b"\r\n\r\n"
_BODY_BYTES: Final = 1024
"""So much of the body of a refused handshake is kept (gorilla/websocket)."""

_TLS_SHUTDOWN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Opened:
    """A virt-handler that said 101.

    Attributes:
        transport: The connection. It reads nothing until somebody takes it over.
        early: What came after the answer already.
    """

    transport: asyncio.Transport
    early: bytes


@dataclass(frozen=True, slots=True)
class _Head:
    """As much of the head of an answer as matters."""

    status: int
    content_length: int

    @classmethod
    def parse(cls, head: bytes) -> Self:
        first, *lines = head.decode("latin-1").split("\r\n")
        _, _, rest = first.partition(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        length = headers.get("content-length", "")
        return cls(
            status=int(rest[:3]) if rest[:3].isdecimal() else 0,
            content_length=int(length) if length.isdecimal() else _BODY_BYTES,
        )


class _Handshake(asyncio.Protocol):
    """Collects the answer to a handshake, and stops reading when it is there."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self._is_complete() or len(self.received) > _MAX_HEAD_BYTES:
            assert self._transport is not None
            # A moment later: aiofastnet forgets an end that came with data at which it is paused.
            asyncio.get_running_loop().call_soon(self._transport.pause_reading)
            self.done.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set()

    def _is_complete(self) -> bool:
        text, end, body = bytes(self.received).partition(_HEAD_END)
        if not end:
            return False
        head = _Head.parse(text)
        wanted = min(head.content_length, _BODY_BYTES)
        return head.status == HTTPStatus.SWITCHING_PROTOCOLS or len(body) >= wanted


async def dial(
    host: str, port: int, target: str, context: ssl.SSLContext, *, old_texts: bool = False
) -> Opened:
    """Open a stream of a virt-handler.

    Args:
        host: Its address.
        port: Its port.
        target: Path and query of the stream.
        context: TLS of virt-api.
        old_texts: Whether refusals are told as before KubeVirt 1.8.

    Raises:
        Refusal: 500, if virt-handler cannot be reached or does not say 101.
    """
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await aiofastnet.create_connection(
            loop,
            _Handshake,
            host,
            port,
            ssl=context,
            server_hostname=HANDLER_DNS,
            ssl_shutdown_timeout=_TLS_SHUTDOWN_S,
        )
    except ssl.SSLError as exc:
        raise internal_error(f"tls: {exc.reason or exc}") from exc
    except OSError as exc:
        why = os.strerror(exc.errno).lower() if exc.errno else str(exc)
        raise internal_error(f"dial tcp {host}:{port}: connect: {why}") from exc
    try:
        return await _shake_hands(transport, protocol, f"{host}:{port}", target, old_texts)
    except BaseException:
        transport.abort()
        raise


async def _shake_hands(
    transport: asyncio.Transport, protocol: _Handshake, host: str, target: str, old_texts: bool
) -> Opened:
    key = base64.b64encode(os.urandom(16)).decode()
    transport.write(
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\n"
        f"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    await protocol.done.wait()
    head, end, rest = bytes(protocol.received).partition(_HEAD_END)
    if not end:
        raise internal_error("unexpected EOF")
    status = _Head.parse(head).status
    if status == HTTPStatus.SWITCHING_PROTOCOLS:
        return Opened(transport, rest)
    raise _bad_handshake(status, rest[:_BODY_BYTES].decode(errors="replace"), old_texts)


def _bad_handshake(status: int, body: str, old_texts: bool) -> Refusal:
    if old_texts:
        return internal_error("dialing virt-handler: websocket: bad handshake")
    said = f": application info: {body}" if body else ""
    return internal_error(f"Can't connect to websocket ({status}): websocket: bad handshake{said}")
