from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.chardev import READ_BYTES, Chardev
from tests.support.virtual_clock import at_rest

NAME = "virt-usbredir-0"


class Recorder:
    """A frontend that writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str | bytes] = []

    def opened(self) -> None:
        self.heard.append("opened")

    def closed(self) -> None:
        self.heard.append("closed")

    def received(self, data: bytes) -> None:
        self.heard.append(data)


class Server:
    """A chardev, and clients of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clients: list[socket.socket] = []
        self.frontend = Recorder()
        self.chardev = Chardev(folder, NAME, self.frontend)
        self.chardev.set_reading(True)

    def client(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        self._clients.append(client)
        client.setblocking(False)
        with sockets.short_path(self._folder, NAME) as path:
            client.connect(path)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self.chardev.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


async def test_reads_4096_bytes_at_a_time(server: Server) -> None:
    server.client().send(bytes(READ_BYTES + 1))

    await at_rest()

    assert server.frontend.heard == ["opened", bytes(READ_BYTES), bytes(1)]


async def test_second_client_waits_until_the_first_is_gone(server: Server) -> None:
    first, second = server.client(), server.client()
    second.send(b"2")
    await at_rest()
    assert server.frontend.heard == ["opened"]

    first.close()
    await at_rest()

    assert server.frontend.heard == ["opened", "closed", "opened", b"2"]


async def test_two_clients_wait_and_a_third_is_refused(server: Server) -> None:
    server.client()
    await at_rest()
    server.client()
    server.client()

    with pytest.raises(BlockingIOError):
        server.client()


async def test_a_client_that_leaves_is_noticed_while_nobody_reads(server: Server) -> None:
    server.chardev.set_reading(False)
    client = server.client()
    client.send(b"unread")
    await at_rest()

    client.close()
    await at_rest()

    assert server.frontend.heard == ["opened", "closed"]


async def test_unread_bytes_wait_while_nobody_reads(server: Server) -> None:
    server.chardev.set_reading(False)
    server.client().send(b"later")
    await at_rest()
    assert server.frontend.heard == ["opened"]

    server.chardev.set_reading(True)
    await at_rest()

    assert server.frontend.heard == ["opened", b"later"]


async def test_a_full_client_is_written_to_when_it_reads_on(server: Server) -> None:
    client = server.client()
    await at_rest()
    while server.chardev.send(bytes(1 << 16)):
        pass
    writable = asyncio.Event()

    server.chardev.when_writable(writable.set)
    while not writable.is_set():
        client.recv(1 << 16)
        await at_rest()

    assert server.chardev.send(b"more") == 4


async def test_socket_and_client_are_gone_after_close(tmp_path: Path) -> None:
    server = Server(tmp_path)
    client = server.client()
    await at_rest()

    server.chardev.close()

    assert client.recv(1) == b""
    client.close()
    assert not os.listdir(tmp_path)


async def test_folder_may_have_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()

    server = Server(folder)
    server.client().send(b"1")
    await at_rest()
    server.close()

    assert server.frontend.heard == ["opened", b"1"]
