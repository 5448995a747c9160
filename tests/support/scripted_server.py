"""A server that answers each request as a test says, down to the frame and the way it ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
_LATE_ACCEPT_ROUNDS: Final = 4
"""Rounds of the event loop until a connection that was just accepted is known to us."""
_LINGER_0: Final = struct.pack("ii", 1, 0)

Script = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request, and the connection to answer it on.

    Attributes:
        method: Of the request.
        target: Of the request: path and query.
        headers: Pairs of lower-case name and value.
        body: Of the request.
        user: Common name of the client's certificate, empty if it showed none.
        peer: Address and port of the client: what tells connections apart.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.method = ""
        self.target = ""
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        certificate = writer.get_extra_info("peercert")
        self.user = certificate["subject"][0][0][1] if certificate else ""
        self.peer = writer.get_extra_info("peername")

    def header(self, name: str) -> str:
        """Return the value of a header, empty if it is absent."""
        return next((value for key, value in self.headers if key == name.lower()), "")

    async def read(self) -> bool:
        """Read a request; return False if there is none any more."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            return False
        request, *lines = head.decode("latin-1").strip().split("\r\n")
        self.method, self.target, _ = request.split(" ")
        split = (line.split(":", 1) for line in lines)
        self.headers = [(name.strip().lower(), value.strip()) for name, value in split]
        self.body = await self._reader.readexactly(int(self.header("content-length") or 0))
        return True

    async def answer(
        self,
        status: int,
        body: bytes | Mapping[str, Any] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer with a whole body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.write(
            self.head(status, {"Content-Length": str(len(content)), **(headers or {})})
        )
        await self.write(content)

    def head(self, status: int, headers: Mapping[str, str]) -> bytes:
        """Return the head of an answer."""
        phrase = HTTPStatus(status).phrase
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode()

    async def start_watch(self) -> None:
        """Begin the answer to a watch."""
        await self.write(self.head(200, {"Transfer-Encoding": "chunked"}))

    async def event(self, kind: str, obj: Mapping[str, Any]) -> None:
        """Send one event of a watch."""
        line = json.dumps({"type": kind, "object": obj}).encode() + b"\n"
        await self.write(b"%x\r\n%b\r\n" % (len(line), line))

    async def end_watch(self) -> None:
        """End a watch in an orderly way."""
        await self.write(b"0\r\n\r\n")

    def acceptance(self, headers: Mapping[str, str] | None = None) -> bytes:
        """Return the answer 101."""
        digest = hashlib.sha1((self.header("sec-websocket-key") + _GUID).encode()).digest()
        accept = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": base64.b64encode(digest).decode(),
        }
        return self.head(101, {**accept, **(headers or {})})

    async def frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True) -> None:
        """Send one frame of a websocket."""
        await self.write(frame_bytes(opcode, payload, fin=fin))

    async def read_frame(self) -> tuple[int, bytes]:
        """Read one frame of the client: opcode and payload, unmasked."""
        first, second = await self._reader.readexactly(2)
        assert second & 0x80, "clients mask"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await self._reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self._reader.readexactly(8))
        mask = await self._reader.readexactly(4)
        data = await self._reader.readexactly(size)
        key = int.from_bytes((mask * (size // 4 + 1))[:size])
        return first & 0xF, (int.from_bytes(data) ^ key).to_bytes(size)

    async def write(self, data: bytes) -> None:
        """Send bytes as they are: over TLS, a record of their own."""
        self._writer.write(data)
        await self._writer.drain()

    async def read_to_end(self) -> bytes:
        """Read until the client is gone, however it goes."""
        try:
            return await self._reader.read()
        except OSError:
            return b""

    async def until_closed(self) -> None:
        """Take frames until the client closes the websocket, and answer that."""
        while (await self.read_frame())[0] != CLOSE:
            pass
        await self.frame(CLOSE, b"\x03\xe8")
        self.say_goodbye()

    async def tunnel(self) -> None:
        """Be a proxy: answer CONNECT and carry bytes until either side is gone."""
        host, port = self.target.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            await self.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with asyncio.TaskGroup() as group:
                copies = [
                    group.create_task(_copy(self._reader, writer)),
                    group.create_task(_copy(reader, self._writer)),
                ]
                _, others = await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
                for copy in others:
                    copy.cancel()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def say_goodbye(self) -> None:
        """End the connection as servers do: close_notify if it is TLS, then FIN."""
        self._writer.close()

    def cut(self) -> None:
        """End the connection by FIN alone, as when the process of the server dies."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection by RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self._writer.transport.abort()

    @property
    def _socket(self) -> socket.socket:
        found: socket.socket = self._writer.get_extra_info("socket")
        return found


class ScriptedServer:
    """Serves on a port of its own while its context is open.

    Args:
        script: Called for each request; the connection stays open afterwards.
        context: For TLS.
    """

    def __init__(self, script: Script, context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.requests: list[Exchange] = []
        self._context = context
        self._server: asyncio.Server | None = None
        self._exit_stack = contextlib.AsyncExitStack()
        self._group: asyncio.TaskGroup | None = None
        self._connections: list[tuple[asyncio.Task[None], asyncio.StreamWriter]] = []

    @property
    def port(self) -> int:
        """The port it listens on."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    @property
    def url(self) -> str:
        """Its URL."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._group = await self._exit_stack.enter_async_context(asyncio.TaskGroup())
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", ssl=self._context)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for _ in range(_LATE_ACCEPT_ROUNDS):
            await asyncio.sleep(0)
        for task, writer in self._connections:
            task.cancel()
            writer.transport.abort()
        await self._exit_stack.__aexit__(None, None, None)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._group is not None
        self._connections.append((self._group.create_task(self._serve(reader, writer)), writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                exchange = Exchange(reader, writer)
                if not await exchange.read():
                    return
                self.requests.append(exchange)
                await self.script(exchange)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the client went away in mid-script
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def frame_bytes(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a frame as a server sends it: RFC 6455, 5.2."""
    first = (0x80 if fin else 0) | opcode
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    if len(payload) < 1 << 16:
        return struct.pack(">BBH", first, 126, len(payload)) + payload
    return struct.pack(">BBQ", first, 127, len(payload)) + payload
