"""The edge in tests: compiled with cc, run beside a socket that behaves as QEMU's."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from kubectl_vmredir.protocol.edge import Closed, Consumed, EdgeMessage, Pong, QemuSaid, Refused
from kubectl_vmredir.protocol.edge_session import EdgeSession, SessionState

SOURCES: Final = Path(__file__).parents[2] / "kubectl_vmredir" / "kubevirt" / "edge"
QEMU_READ_BYTES: Final = 4096
_LIMIT_S: Final = 20.0
_SANITIZED: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compile_edge(target: Path, *, sanitized: bool, flags: tuple[str, ...] = ()) -> Path:
    """Compile the edge for this machine; warnings are errors."""
    always = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"]
    sources = sorted(str(path) for path in SOURCES.glob("*.c"))
    more = _SANITIZED if sanitized else ()
    subprocess.run(["cc", *always, *more, *flags, *sources, "-o", str(target)], check=True)
    return target


class Slot:
    """A listening socket as QEMU has it, and what it reads and writes there.

    QEMU accepts one connection, and stops listening to others while it has it.
    """

    def __init__(self, folder: Path, *, name: str = "virt-usbredir-0") -> None:
        self.path = folder / name
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(1)
        self._listener.settimeout(_LIMIT_S)
        self.peer: socket.socket | None = None
        self.heard = bytearray()

    def accept(self) -> None:
        self.peer, _ = self._listener.accept()
        self.peer.settimeout(_LIMIT_S)

    def read(self) -> bytes:
        """Read once, as QEMU does."""
        assert self.peer is not None
        data = self.peer.recv(QEMU_READ_BYTES)
        self.heard += data
        return data

    def read_until(self, size: int) -> None:
        while len(self.heard) < size:
            assert self.read(), "the edge closed"

    def wait_until_readable(self) -> None:
        assert self.peer is not None
        assert select.select([self.peer], [], [], _LIMIT_S)[0], "nothing came"

    def say(self, data: bytes) -> None:
        assert self.peer is not None
        self.peer.sendall(data)

    def hang_up(self) -> None:
        """Close the connection, as at the end of QEMU."""
        assert self.peer is not None
        self.peer.close()
        self.peer = None

    def close(self) -> None:
        self._listener.close()
        if self.peer is not None:
            self.hang_up()


class Tunnel:
    """An exec'd edge, and our end of its standard streams."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.writer, self.reader = self.process.stdin, self.process.stdout
        os.set_blocking(self.writer.fileno(), False)

    def write(self, data: bytes) -> int:
        try:
            return os.write(self.writer.fileno(), data)
        except BlockingIOError:
            return 0

    def read(self) -> bytes:
        return os.read(self.reader.fileno(), 65536)

    def tear(self) -> None:
        """End it as an exec stream ends: the standard streams are gone."""
        for stream in (self.writer, self.reader):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self.process.wait(_LIMIT_S)


class Client:
    """A session with an edge, over tunnels that come and go; blocking, for tests."""

    def __init__(
        self,
        command: list[str],
        *,
        wait_s: float = 5.0,
        linger_s: int = 30,
        take: bool = False,
        lockstep: bool = False,
    ) -> None:
        self._command = command
        self.session = EdgeSession(
            secrets.token_bytes(16), wait_s=wait_s, linger_s=linger_s, take=take, lockstep=lockstep
        )
        self.heard = bytearray()
        self.news: list[EdgeMessage] = []
        self._unwritten = b""
        self.tunnel = self._dial()

    def _dial(self) -> Tunnel:
        self.session.tunnel_opened()
        self._unwritten = b""
        return Tunnel(self._command)

    def tear(self) -> None:
        self.tunnel.tear()

    def resume(self) -> None:
        self.tunnel.tear()
        self.tunnel = self._dial()

    def step(self, timeout_s: float) -> None:
        """Write what can be written, and read what is there."""
        self._unwritten += self.session.output()
        writers = [self.tunnel.writer] if self._unwritten else []
        readable, writable, _ = select.select([self.tunnel.reader], writers, [], timeout_s)
        if writable:
            self._unwritten = self._unwritten[self.tunnel.write(self._unwritten) :]
        if readable:
            data = self.tunnel.read()
            assert data, "the edge ended the tunnel"
            for message in self.session.receive(data):
                if isinstance(message, QemuSaid):
                    self.heard += message.data
                else:
                    self.news.append(message)

    def until(self, condition: Callable[[], object], limit_s: float = _LIMIT_S) -> None:
        """Go on until the condition holds."""
        end = time.monotonic() + limit_s
        while not condition():
            left = end - time.monotonic()
            assert left > 0, f"timed out: {self.session.state}, {self.news[-5:]}"
            self.step(left)

    def open(self) -> None:
        self.until(lambda: self.session.state is not SessionState.OPENING)
        assert self.session.state is SessionState.OPEN, self.news

    def ask_to_open(self) -> None:
        """Say OPEN, and wait for nothing."""
        self._unwritten += self.session.output()
        self.until(lambda: not self._unwritten)

    def send(self, data: bytes) -> None:
        self.session.send(data)

    def flushed(self) -> None:
        """Write all that the window allows, and wait until the edge has it: a ping comes back."""
        self.until(lambda: not self.session.resuming)
        pongs = sum(isinstance(message, Pong) for message in self.news)
        self._unwritten += self.session.output()
        self.session.ping(pongs)
        self.until(lambda: sum(isinstance(message, Pong) for message in self.news) > pongs)

    def consumed(self, offset: int) -> None:
        self.until(lambda: self.session.consumed >= offset)

    def in_lockstep(self) -> None:
        self.session.lockstep(on=True)
        self.until(lambda: self.session.lockstep_proven)

    def closed(self) -> Closed:
        self.until(lambda: self.session.state is SessionState.CLOSED)
        return next(message for message in self.news if isinstance(message, Closed))

    def refused(self) -> Refused:
        def found() -> list[Refused]:
            return [message for message in self.news if isinstance(message, Refused)]

        self.until(found)
        return found()[0]

    def reports(self) -> list[Consumed]:
        return [message for message in self.news if isinstance(message, Consumed)]


class EdgeBed:
    """A folder with an edge, a slot, and everything that is to be ended after the test."""

    def __init__(self, program: Path) -> None:
        self._stack = contextlib.ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-")))
        self.program = program
        self.socket = self.folder / "edge.sock"
        self.slot = Slot(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.slot.close()
        for pid in self.daemons():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._stack.close()

    @property
    def command(self) -> list[str]:
        return [str(self.program), str(self.socket), str(self.slot.path)]

    def client(self, **options: bool | float) -> Client:
        client = Client(self.command, **options)  # type: ignore[arg-type]
        self._stack.callback(client.tear)
        return client

    def opened(self, **options: bool | float) -> Client:
        """Return a client whose slot is open."""
        client = self.client(**options)
        client.ask_to_open()
        self.slot.accept()
        client.open()
        return client

    def tunnel(self) -> Tunnel:
        """Return a tunnel that nobody speaks on yet."""
        tunnel = Tunnel(self.command)
        self._stack.callback(tunnel.tear)
        return tunnel

    def daemons(self) -> list[int]:
        """Return the daemons of this folder: they have a session of their own."""
        return [pid for pid in _processes_of(str(self.socket)) if os.getsid(pid) != os.getsid(0)]

    def until_ended(self, limit_s: float = _LIMIT_S) -> None:
        """Wait until no daemon lives."""
        for pid in self.daemons():
            with contextlib.suppress(ProcessLookupError):
                watched = os.pidfd_open(pid)
                self._stack.callback(os.close, watched)
                assert select.select([watched], [], [], limit_s)[0], "the daemon lives on"


def _processes_of(argument: str) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if argument.encode() in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)
