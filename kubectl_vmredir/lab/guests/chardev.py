"""A server socket as QEMU's ``-chardev socket,server=on,wait=off`` has it.

One client at a time: the next one connects, and waits in the backlog unheard until the first
is gone; with two of them waiting, a third is refused (EAGAIN).

Source: chardev/char-socket.c of QEMU 7.2.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Final, Protocol

from kubectl_vmredir.lab.guests import sockets

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

READ_BYTES: Final = 4096
"""Most that is read at a time: CHR_READ_BUF_LEN, measured unchanged in QEMU 10.0."""


class Frontend(Protocol):
    """The device behind the socket."""

    def opened(self) -> None:
        """A client is there."""

    def closed(self) -> None:
        """The client is gone."""

    def received(self, data: bytes) -> None:
        """The client sent bytes, at most :data:`READ_BYTES`."""


class Chardev:
    """The server; closes with :meth:`close`, and the socket file vanishes.

    Args:
        folder: Where the socket is made.
        name: Its name.
        frontend: Hears of clients and of what they send.
    """

    def __init__(self, folder: Path, name: str, frontend: Frontend) -> None:
        self._path = folder / name
        self._frontend = frontend
        self._loop = asyncio.get_running_loop()
        self._listener = sockets.listen(folder, name)
        self._client: socket.socket | None = None
        self._hangup: select.epoll | None = None
        self._reading = False
        self._loop.add_reader(self._listener, self._accept)

    @property
    def connected(self) -> bool:
        """Whether a client is there."""
        return self._client is not None

    def set_reading(self, reading: bool) -> None:
        """Say whether the frontend can take bytes now. That a client left is always noticed."""
        if reading == self._reading:
            return
        self._reading = reading
        if self._client is not None and reading:
            self._loop.add_reader(self._client, self._read)
        elif self._client is not None:
            self._loop.remove_reader(self._client)

    def send(self, data: bytes | memoryview) -> int:
        """Send as much as the client takes now, and return how much that is."""
        if self._client is None:
            return 0
        try:
            return self._client.send(data)
        except BlockingIOError:
            return 0
        except ConnectionError:
            return 0  # the hang-up follows

    def when_writable(self, callback: Callable[[], None]) -> None:
        """Call back once, when the client takes more; not if it leaves before."""
        if (client := self._client) is not None:

            def writable() -> None:
                self._loop.remove_writer(client)
                callback()

            self._loop.add_writer(client, writable)

    def close(self) -> None:
        """Stop to serve; the frontend hears nothing of it."""
        self._drop()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:
            return  # it left while it waited
        self._loop.remove_reader(self._listener)
        client.setblocking(False)
        self._client = client
        # Tells of a hang-up and of nothing else: it must be seen while nobody reads.
        self._hangup = select.epoll()
        self._hangup.register(client, 0)
        self._loop.add_reader(self._hangup, self._disconnected)
        if self._reading:
            self._loop.add_reader(client, self._read)
        self._frontend.opened()

    def _read(self) -> None:
        assert self._client is not None, "readers end with their client"
        try:
            data = self._client.recv(READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if data:
            self._frontend.received(data)
        else:
            self._disconnected()

    def _disconnected(self) -> None:
        self._drop()
        self._loop.add_reader(self._listener, self._accept)
        self._frontend.closed()

    def _drop(self) -> None:
        if self._client is None:
            return
        assert self._hangup is not None, "made with the client"
        self._loop.remove_reader(self._hangup)
        self._hangup.close()
        self._loop.remove_reader(self._client)
        self._loop.remove_writer(self._client)
        self._client.close()
        self._client = self._hangup = None
