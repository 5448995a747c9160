"""The network between two programs, which can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from kubectl_vmredir.lab.api import splice
from kubectl_vmredir.lab.race import race

_LOOPBACK = "127.0.0.1"
_CHUNK_BYTES = 256 << 10


class Relay:
    """Passes TCP connections on to a port, whatever they carry.

    Attributes:
        port: Where it listens.
        cut_off: Connections that cuts have hit so far.

    Args:
        target: Port that it leads to.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.cut_off = 0
        self._target = target
        self._refuses = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()

    @property
    def carries(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        """Carry, until left."""
        async with asyncio.TaskGroup() as group:
            server = await asyncio.start_server(
                lambda reader, writer: self._welcome(reader, writer, group), _LOOPBACK, 0
            )
            self.port = server.sockets[0].getsockname()[1]
            try:
                yield self
            finally:
                server.close()
                self.cut(silent=False)

    def cut(self, *, silent: bool) -> None:
        """Carry nothing from now on.

        Args:
            silent: Have both sides wait; otherwise reset what there is, and what is tried.
        """
        self.cut_off += len(self._connections)
        self._refuses = not silent
        if silent:
            self._flowing.clear()
        else:
            self._flowing.set()
            for connection in self._connections:
                for writer in connection:
                    _reset(writer)

    def mend(self) -> None:
        """Carry again; what has waited goes on, as nothing was lost."""
        self._refuses = False
        self._flowing.set()

    def _welcome(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, group: asyncio.TaskGroup
    ) -> None:
        if self._refuses:
            _reset(writer)
        else:
            group.create_task(self._carry(reader, writer), name="relay")

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(_LOOPBACK, self._target)
        except OSError:
            _reset(writer)
            return
        connection = (writer, far_writer)
        self._connections.add(connection)
        try:
            await race(self._copy(reader, far_writer), self._copy(far_reader, writer))
        finally:
            self._connections.discard(connection)
            writer.close()
            far_writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    transport = writer.transport
    assert isinstance(transport, asyncio.Transport), "that of a socket"
    if transport.is_closing():
        transport.abort()  # its socket may be closed already
    else:
        splice.reset(transport)
