"""The network of the fault run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.relay import Relay

LIMIT_S = 5.0


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


@asynccontextmanager
async def a_relay() -> AsyncIterator[Relay]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Relay(server.sockets[0].getsockname()[1]).listening() as relay:
        yield relay


@asynccontextmanager
async def a_connection(
    relay: Relay,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(LIMIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        writer.write(b"hello")
        assert await reader.read(100) == b"hello"
        yield reader, writer
        writer.close()


async def test_what_waits_while_the_network_is_silent_comes_later() -> None:
    async with a_relay() as relay, a_connection(relay) as (reader, writer):
        relay.cut(silent=True)
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(100)

        relay.mend()

        assert await reader.read(100) == b"late"
        assert relay.cut_off == 1


async def test_cut_that_is_not_silent_resets_and_refuses() -> None:
    async with a_relay() as relay:
        async with a_connection(relay) as (reader, _):
            relay.cut(silent=False)
            with pytest.raises(ConnectionResetError):
                await reader.read(100)
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
        with pytest.raises(ConnectionResetError):
            await reader.read(100)
        writer.close()

        relay.mend()

        async with a_connection(relay):
            pass


async def test_end_of_one_side_is_the_end_of_the_other() -> None:
    async with a_relay() as relay, a_connection(relay) as (reader, writer):
        writer.write_eof()

        assert await reader.read(100) == b""
