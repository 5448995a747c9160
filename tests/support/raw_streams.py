"""A client of streams that hides nothing: frames, bodies, and how the connection ended."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from kubectl_vmredir.lab.nodes.frames import Opcode
from tests.support.lab_api import UPGRADE, RawClient, StreamEnd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.worlds import World

SUBPROTOCOL: Final = "Sec-WebSocket-Protocol: plain.kubevirt.io"
_MASK: Final = b"\0\0\0\0"
"""Legal, and shows on the wire what is sent."""


@dataclass(frozen=True)
class Frame:
    """One frame; ``final`` is its FIN bit."""

    opcode: Opcode
    payload: bytes
    final: bool = True

    def __repr__(self) -> str:
        data = self.payload if len(self.payload) < 40 else f"{len(self.payload)} bytes"
        return f"{self.opcode.name}{'' if self.final else '+'}({data!r})"


@dataclass(frozen=True)
class Answer:
    """The head of an answer.

    Attributes:
        status: Status code.
        headers: By lower-case name.
    """

    status: int
    headers: dict[str, str]

    @classmethod
    def parse(cls, head: str) -> Answer:
        """Read it."""
        first, *rest = head.split("\r\n")
        pairs = (line.partition(": ") for line in rest)
        return cls(int(first.split()[1]), {name.lower(): value for name, _, value in pairs})


class RawStream:
    """The answer to a dial, and the frames that follow."""

    def __init__(self, connection: RawClient, answer: Answer) -> None:
        self._connection = connection
        self.answer = answer

    async def body(self) -> bytes:
        """Return the body of a refusal."""
        return await self._connection.receive(int(self.answer.headers["content-length"]))

    async def message(self) -> str:
        """Return the message of a refusal that is a Status."""
        status: dict[str, Any] = json.loads(await self.body())
        return str(status["message"])

    async def send(
        self,
        payload: bytes,
        opcode: Opcode = Opcode.BINARY,
        *,
        final: bool = True,
        masked: bool = True,
    ) -> None:
        """Send one frame."""
        first, mask = (0x80 if final else 0) | opcode, 0x80 if masked else 0
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", first, mask | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", first, mask | 126, size)
        else:
            head = struct.pack(">BBQ", first, mask | 127, size)
        await self._connection.send(head + (_MASK if masked else b"") + payload)

    async def frame(self) -> Frame:
        """Return the next frame.

        Raises:
            StreamEnd: If the connection ends instead.
        """
        first, size = await self._connection.receive(2)
        if size == 126:
            (size,) = struct.unpack(">H", await self._connection.receive(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await self._connection.receive(8))
        payload = await self._connection.receive(size) if size else b""
        return Frame(Opcode(first & 0x0F), payload, bool(first & 0x80))

    async def receive(self, length: int) -> bytes:
        """Return the payload of whole messages with so many bytes, whatever the frames."""
        data, final = b"", True
        while len(data) < length or not final:
            frame = await self.frame()
            assert frame.opcode in (Opcode.BINARY, Opcode.CONTINUATION), frame
            data += frame.payload
            final = frame.final
        return data

    async def ending(self) -> str:
        """Return how the connection ends, with nothing before it: close_notify, FIN or RST."""
        try:
            frame = await self.frame()
        except StreamEnd as end:
            return str(end)
        raise AssertionError(f"a frame came instead of the end: {frame}")

    async def silent(self) -> bool:
        """Ping, and return whether nothing came before the pong."""
        await self.send(b"still there?", Opcode.PING)
        return await self.frame() == Frame(Opcode.PONG, b"still there?")


@asynccontextmanager
async def dial(
    world: World, path: str, *headers: str, user: str = "alice", upgrade: bool = True
) -> AsyncIterator[RawStream]:
    """Dial a stream; the connection is closed without a word at the end.

    Args:
        world: Where.
        path: Of the stream.
        headers: More lines of the request.
        user: A context of the kubeconfig.
        upgrade: Whether to ask for a websocket.
    """
    access = await world.access(user)
    assert access.ssl_context is not None
    address = urlsplit(access.server)
    with socket.socket() as plain:
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(plain, (address.hostname, address.port))
        connection = RawClient(plain, access.ssl_context)
        await connection.handshake()
        lines = [f"GET {path} HTTP/1.1", f"Host: {address.netloc}"]
        lines += [f"{name}: {value}" for name, value in access.headers]
        lines += [*(UPGRADE if upgrade else ()), *headers]
        await connection.send("\r\n".join([*lines, "", ""]).encode())
        yield RawStream(connection, Answer.parse(await connection.head()))
