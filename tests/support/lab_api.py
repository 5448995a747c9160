"""The lab's API server for tests: objects, a scripted virt-handler, clients that hide nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from kubectl_vmredir.lab.api.rbac import MASTERS, User
from kubectl_vmredir.lab.api.registry import Registry
from kubectl_vmredir.lab.api.resources import PODS, VMIS, VMS, Target
from kubectl_vmredir.lab.api.server import ApiServer

Json = dict[str, Any]

VMI_PATH = "/apis/kubevirt.io/v1/namespaces/demo/virtualmachineinstances"
VMIM_PATH = "/apis/kubevirt.io/v1/namespaces/demo/virtualmachineinstancemigrations"
STREAM_PATH = "/apis/subresources.kubevirt.io/v1/namespaces/demo/virtualmachineinstances"
ADMIN = User("admin", groups=(MASTERS,))
WAIT_S = 5

UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
"""The handshake of RFC 6455, section 1.3; its accept is s3pPLMBiTxaQ9kYGzzhZRbK+xOo=."""


def client(server: ApiServer, user: str = "admin") -> httpx.AsyncClient:
    """Return an HTTP client of one user; an empty name stands for nobody's token."""
    headers = {"Authorization": f"Bearer {server.tokens[user]}"} if user else {}
    context = ssl.create_default_context(cadata=server.ca_pem)
    return httpx.AsyncClient(
        base_url=server.url, headers=headers, verify=context, trust_env=False, timeout=WAIT_S
    )


def vmi(name: str = "fedora", *, passthrough: bool = True, **status: str) -> Json:
    """Return a VMI that runs on node1, but for what ``status`` says."""
    devices: Json = {"clientPassthrough": {}} if passthrough else {}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": name},
        "spec": {"domain": {"devices": devices}},
        "status": {"phase": "Running", "nodeName": "node1", **status},
    }


def vm(name: str = "fedora") -> Json:
    """Return a VirtualMachine."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"template": {"spec": {}}},
    }


def vmim(name: str = "move", vmi_name: str = "fedora") -> Json:
    """Return a migration."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceMigration",
        "metadata": {"name": name},
        "spec": {"vmiName": vmi_name},
    }


def add_vmi(server: ApiServer, obj: Json) -> Json:
    """Put a VMI into namespace demo."""
    return Registry(server.store).create(Target(VMIS, "demo"), obj, ADMIN)


def add_vm(server: ApiServer, obj: Json) -> Json:
    """Put a VirtualMachine into namespace demo."""
    return Registry(server.store).create(Target(VMS, "demo"), obj, ADMIN)


def add_handler_pod(server: ApiServer, node: str, port: int) -> None:
    """Put the pod of a virt-handler into namespace kubevirt."""
    pod = {
        "metadata": {
            "name": f"virt-handler-{node}",
            "labels": {"kubevirt.io": "virt-handler"},
            "annotations": {"lab.vmredir.io/port": str(port)},
        },
        "spec": {"nodeName": node, "containers": [{"name": "virt-handler"}]},
    }
    registry = Registry(server.store)
    created = registry.create(Target(PODS, "kubevirt"), pod, ADMIN)
    target = Target(PODS, "kubevirt", created["metadata"]["name"], "status")
    registry.update(
        target, {**created, "status": {"phase": "Running", "podIP": "127.0.0.1"}}, ADMIN
    )


@dataclass
class NodeStream:
    """The node's end of a stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class FakeHandler:
    """A virt-handler: says 101 to each dial, or what is next in ``refusals``.

    Attributes:
        port: Where it listens.
        refusals: Whole HTTP answers for the next dials.
        requests: First line of each dial.
        streams: The streams that it opened, in order.
        greeting: Sent in one piece with each 101.
    """

    def __init__(self) -> None:
        self.port = 0
        self.refusals: deque[bytes] = deque()
        self.requests: list[str] = []
        self.streams: asyncio.Queue[NodeStream] = asyncio.Queue()
        self.greeting = b""
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one dial."""
        self._writers.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head.decode().splitlines()[0])
        if self.refusals:
            writer.write(self.refusals.popleft())
            writer.close()
            return
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + self.greeting)
        self.streams.put_nowait(NodeStream(reader, writer))

    async def stream(self) -> NodeStream:
        """Return the next stream that was opened."""
        async with asyncio.timeout(WAIT_S):
            return await self.streams.get()

    async def close(self) -> None:
        """Cut what is open."""
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)


def handler_context(server: ApiServer) -> ssl.SSLContext:
    """Return what a virt-handler listens with: it wants virt-api's certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=server.pki.kubevirt.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server.pki.handler.certificate, server.pki.handler.key)
    return context


@asynccontextmanager
async def fake_handler(server: ApiServer, node: str = "node1") -> AsyncIterator[FakeHandler]:
    """Run a virt-handler, known to the API server as the one of a node."""
    handler = FakeHandler()
    listener = await asyncio.start_server(
        handler.serve, "127.0.0.1", 0, ssl=handler_context(server), ssl_shutdown_timeout=WAIT_S
    )
    handler.port = listener.sockets[0].getsockname()[1]
    add_handler_pod(server, node, handler.port)
    try:
        yield handler
    finally:
        listener.close()
        await handler.close()


class StreamEnd(Exception):
    """The server's side of a connection ended: by ``close_notify``, ``FIN`` or ``RST``."""


class RawClient:
    """A TLS connection that shows each byte, and how it ended.

    TLS is done in memory, since neither asyncio nor a TLS socket of Python tells FIN from RST.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self._plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self._buffer = bytearray()

    async def handshake(self) -> None:
        """Do the handshake of TLS."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._exchange()
            else:
                await self._flush()
                return

    def close(self) -> None:
        """Close the connection, without a word of TLS."""
        self._plain.close()

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self._tls.write(data)
        await self._flush()

    async def receive(self, count: int) -> bytes:
        """Return exactly so many bytes.

        Raises:
            StreamEnd: If there are not so many.
        """
        while len(self._buffer) < count:
            self._buffer += await self._more()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def head(self) -> str:
        """Return the head of an answer, without the empty line."""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += await self._more()
        end = self._buffer.index(b"\r\n\r\n")
        head = self._buffer[:end].decode()
        del self._buffer[: end + 4]
        return head

    async def ending(self) -> str:
        """Read to the end and say what it was: close_notify, FIN or RST."""
        try:
            while True:
                await self._more()
        except StreamEnd as end:
            return str(end)

    async def _more(self) -> bytes:
        while True:
            try:
                if data := self._tls.read(1 << 18):
                    return data
            except ssl.SSLWantReadError:
                await self._exchange()
                continue
            except ssl.SSLZeroReturnError:
                pass
            raise StreamEnd("close_notify")

    async def _exchange(self) -> None:
        await self._flush()
        try:
            async with asyncio.timeout(WAIT_S):
                data = await asyncio.get_running_loop().sock_recv(self._plain, 1 << 18)
        except ConnectionResetError as exc:
            raise StreamEnd("RST") from exc
        if not data:
            raise StreamEnd("FIN")
        self._incoming.write(data)

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await asyncio.get_running_loop().sock_sendall(self._plain, data)


@asynccontextmanager
async def raw_client(server: ApiServer) -> AsyncIterator[RawClient]:
    """Open a raw connection."""
    context = ssl.create_default_context(cadata=server.ca_pem)
    with socket.socket() as plain:
        plain.setblocking(False)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
        await asyncio.get_running_loop().sock_connect(plain, address)
        connection = RawClient(plain, context)
        await connection.handshake()
        yield connection


async def request(
    connection: RawClient, server: ApiServer, path: str, *headers: str, user: str = "alice"
) -> str:
    """Send a GET and return the head of its answer."""
    lines = [f"GET {path} HTTP/1.1", "Host: lab", *headers]
    if user:
        lines.append(f"Authorization: Bearer {server.tokens[user]}")
    await connection.send("\r\n".join([*lines, "", ""]).encode())
    return await connection.head()
