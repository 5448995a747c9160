from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiofastnet
import pytest

from kubectl_vmredir.lab.api.pki import Pki
from kubectl_vmredir.lab.api.splice import Side, end
from tests.support.lab_api import WAIT_S, RawClient, StreamEnd

TLS_SHUTDOWN_S = 0.05


@asynccontextmanager
async def connection(folder: Path) -> AsyncIterator[tuple[Side, RawClient]]:
    """Open a TLS connection whose server's end is a side of a splice."""
    pki = Pki(folder)
    loop = asyncio.get_running_loop()
    accepted: asyncio.Queue[asyncio.Transport] = asyncio.Queue()

    class Accepting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.put_nowait(transport)  # type: ignore[arg-type]

    listener = await aiofastnet.create_server(
        loop,
        Accepting,
        "127.0.0.1",
        0,
        ssl=pki.server_context(),
        ssl_shutdown_timeout=TLS_SHUTDOWN_S,
    )
    with socket.socket() as plain:
        plain.setblocking(False)
        await loop.sock_connect(plain, listener.sockets[0].getsockname())
        client = RawClient(plain, ssl.create_default_context(cadata=pki.cluster.pem))
        await client.handshake()
        side = Side(await accepted.get())
        side.transport.set_protocol(side)
        yield side, client
        side.transport.abort()
        listener.close()
        await side.lost.wait()


async def test_the_end_waits_for_a_client_that_has_not_read_everything(tmp_path: Path) -> None:
    size = 24 << 20
    async with asyncio.timeout(WAIT_S), connection(tmp_path) as (side, client):
        side.transport.write(bytes(size))
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(end(side))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(4 * TLS_SHUTDOWN_S):
                    await asyncio.shield(ending)

            assert await client.receive(size) == bytes(size)
            with pytest.raises(StreamEnd, match="close_notify"):
                await client.receive(1)


async def test_a_client_that_never_reads_is_forgotten_when_it_goes(tmp_path: Path) -> None:
    async with asyncio.timeout(WAIT_S), connection(tmp_path) as (side, client):
        side.transport.write(bytes(24 << 20))
        async with asyncio.TaskGroup() as group:
            group.create_task(end(side))
            client.close()
