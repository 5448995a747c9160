"""A virt-handler's streams over real TLS; a test has the guests' sockets and the clients."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from kubectl_vmredir.lab.api.pki import HANDLER_DNS, Pki
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.nodes.streams import StreamServer, serve_streams
from kubectl_vmredir.model import VmiRef, VmiUid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DESK: Final = VmiRef("demo", "desk")
DESK_UID: Final = VmiUid("0c1a")
PREFIX: Final = "/v1/namespaces/demo/virtualmachineinstances/desk"
MASK: Final = bytes.fromhex("01020304")
TIMEOUT_S: Final = 5.0


class GuestSocket:
    """A listening socket of a guest, served one client at a time by the test."""

    def __init__(self, folder: Path, name: str) -> None:
        self._listener = sockets.listen(folder, name)

    async def accept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(TIMEOUT_S):
            connection, _ = await loop.sock_accept(self._listener)
        return await asyncio.open_unix_connection(sock=connection)

    def close(self) -> None:
        self._listener.close()


@dataclass
class Handler:
    """A running stream server, and what it takes for its node."""

    server: StreamServer
    node: Node
    context: ssl.SSLContext
    folders: list[Path]
    guests: list[GuestSocket] = field(default_factory=list)

    def listen(self, name: str) -> GuestSocket:
        """Make a socket in the guest's folder."""
        self.guests.append(GuestSocket(self.folders[0], name))
        return self.guests[-1]

    async def dial(self, stream: str = "usbredir", headers: str = "") -> Client:
        """Send a handshake for a stream, and read the answer."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.server.port, ssl=self.context, server_hostname=HANDLER_DNS
        )
        client = Client(reader, writer)
        writer.write(
            f"GET {PREFIX}/{stream} HTTP/1.1\r\nHost: node1\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n".encode()
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                client.head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except BaseException:
            client.close()
            raise
        return client


class Client:
    """A client's end of a stream, in raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.head = ""

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1])

    def send(self, first: int, payload: bytes) -> None:
        """Send one frame whose first byte is ``first``, masked."""
        length = len(payload)
        head = bytes((first, 0x80 | length)) if length < 126 else bytes((first, 0xFF))
        if length >= 126:
            head += length.to_bytes(8, "big")
        body = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload))
        self.writer.write(head + MASK + body)

    async def read(self, length: int) -> bytes:
        async with asyncio.timeout(TIMEOUT_S):
            return await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """Return all bytes up to the end of the stream."""
        async with asyncio.timeout(TIMEOUT_S):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()


class Node:
    """What the streams ask their node."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self.vmis = {DESK: DESK_UID}

    def vmi(self, ref: VmiRef) -> VmiUid | None:
        return self.vmis.get(ref)

    def run_folders(self, vmi: VmiUid) -> list[Path]:
        return self._folders if vmi == DESK_UID else []


@asynccontextmanager
async def handler(folder: Path) -> AsyncIterator[Handler]:
    """Give a virt-handler on whose node one VMI runs, with no socket yet."""
    pki = Pki(folder / "pki")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=pki.kubevirt.pem)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(pki.handler.certificate, pki.handler.key)
    run_folder = folder / "run"
    run_folder.mkdir()
    folders = [run_folder]
    node = Node(folders)
    async with serve_streams(node, tls) as server:
        made = Handler(server, node, pki.handler_context(), folders)
        try:
            yield made
        finally:
            for guest in made.guests:
                guest.close()
