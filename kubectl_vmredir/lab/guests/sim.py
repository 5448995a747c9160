"""The simulated guest behind a node: real unix sockets, no QEMU; needs nothing but Python.

A guest runs in this process, in the event loop of its hypervisor. Its state moves over a unix
socket, so the target may be in another process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from kubectl_vmredir.errors import LabError, MigrationFailed
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.domain import MigrationPhase
from kubectl_vmredir.lab.guests.machine import SimMachine

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from kubectl_vmredir.lab.guests.domain import DomainSpec

logger = logging.getLogger(__name__)

_SCHEME: Final = "unix:"
_SOCKET: Final = "migration"
_LENGTH_BYTES: Final = 8
"""In front of the state on the wire; big-endian."""
_LOADED: Final = b"\x01"
"""The target's answer."""
_LOAD_TIMEOUT_S: Final = 30.0


class SimDomain:
    """A simulated guest; see :class:`~kubectl_vmredir.lab.guests.domain.Domain`."""

    def __init__(
        self, spec: DomainSpec, *, incoming: bool, on_end: Callable[[SimDomain], None]
    ) -> None:
        self._spec = spec
        self._on_end = on_end
        self._machine = SimMachine(spec.run_folder, incoming=incoming, on_crash=self.end)
        self._ended = asyncio.Event()
        self._how_ended = ""
        self._settled = asyncio.Event()  # the state is loaded, or never will be
        self._incoming: tempfile.TemporaryDirectory[str] | None = None
        self._listener: socket.socket | None = None
        self._arrival: asyncio.Task[None] | None = None
        self._stream: asyncio.StreamWriter | None = None
        self._cancelled = False

    @property
    def spec(self) -> DomainSpec:
        """What it was made from."""
        return self._spec

    @property
    def pid(self) -> None:
        """It has no process of its own."""

    @property
    def address(self) -> str:
        """Where to migrate to."""
        assert self._incoming is not None, "this domain does not listen"
        return f"{_SCHEME}{self._incoming.name}/{_SOCKET}"

    # -- start and end ------------------------------------------------------------------------

    def boot(self) -> None:
        """Let a new guest run."""
        self._machine.boot()

    def listen(self, group: asyncio.TaskGroup) -> None:
        """Take a migration at :attr:`address`, in a task of this group."""
        # A folder with a short path, and for this user only: whoever can connect is the guest.
        self._incoming = tempfile.TemporaryDirectory(prefix="vmredir-")
        self._listener = sockets.listen(Path(self._incoming.name), _SOCKET)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, group)

    def end(self, how: str) -> None:
        """End now; the first reason counts."""
        if self._ended.is_set():
            return
        self._how_ended = how
        self._machine.close()
        if self._stream is not None:
            self._stream.close()
        self._stop_listening()
        if self._arrival is not None:
            self._arrival.cancel()
        if self._incoming is not None:
            self._incoming.cleanup()
        self._ended.set()
        self._settled.set()
        self._on_end(self)
        logger.info("%s: %s", self._spec.vmi, how)

    async def wait_ended(self) -> str:
        """Wait until the domain has ended, and return how."""
        await self._ended.wait()
        return self._how_ended

    async def destroy(self) -> None:
        """End the domain."""
        self.end("destroyed")

    # -- migration: target --------------------------------------------------------------------

    async def wait_migrated(self) -> None:
        """Wait until the state is loaded."""
        await self._settled.wait()
        if self._ended.is_set():
            raise MigrationFailed(f"VM {self._spec.vmi} did not come: {self._how_ended}")

    async def resume(self) -> None:
        """Let the guest run."""
        self._machine.resume()

    def _accept(self, group: asyncio.TaskGroup) -> None:
        assert self._listener is not None, "it is watched while it is open"
        source, _ = self._listener.accept()
        source.setblocking(False)
        self._stop_listening()
        self._arrival = group.create_task(self._arrive(source), name=f"incoming-{self._spec.vmi}")
        # A callback, because a task that is cancelled before it runs has no `finally`.
        self._arrival.add_done_callback(lambda _: source.close())

    async def _arrive(self, source: socket.socket) -> None:
        try:
            size = int.from_bytes(await _receive(source, _LENGTH_BYTES), "big")
            state = json.loads(await _receive(source, size))
        except OSError:
            self.end("load of migration failed: Input/output error")
            return
        self._machine.load(state)
        self._settled.set()
        with suppress(OSError):  # the source may be gone: the guest is here
            await asyncio.get_running_loop().sock_sendall(source, _LOADED)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    # -- migration: source --------------------------------------------------------------------

    async def migrate(
        self, address: str, *, on_phase: Callable[[MigrationPhase], Awaitable[None]]
    ) -> None:
        """Migrate away."""
        self._cancelled = False
        moved = False
        try:
            reader, self._stream = await asyncio.open_unix_connection(address.removeprefix(_SCHEME))
            await self._move(reader, self._stream, on_phase)
            moved = True
        except (OSError, asyncio.IncompleteReadError) as exc:
            raise self._failure("the target is gone") from exc
        finally:
            if self._stream is not None:
                self._stream.close()
                self._stream = None
            if not moved and not self._ended.is_set():
                self._machine.resume()

    async def cancel_migration(self) -> None:
        """Cancel the migration under way."""
        if self._stream is not None and not self._ended.is_set():
            self._cancelled = True
            self._stream.close()
            self._machine.resume()

    async def _move(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_phase: Callable[[MigrationPhase], Awaitable[None]],
    ) -> None:
        await on_phase(MigrationPhase.ACTIVE)
        await self._copy_memory(reader)
        self._machine.pause()
        await on_phase(MigrationPhase.PRE_SWITCHOVER)
        self._check()
        state = json.dumps(self._machine.save()).encode()
        writer.write(len(state).to_bytes(_LENGTH_BYTES, "big"))
        writer.write(state)
        async with asyncio.timeout(_LOAD_TIMEOUT_S):
            await reader.readexactly(len(_LOADED))

    async def _copy_memory(self, reader: asyncio.StreamReader) -> None:
        """Take the time that a real copy takes, unless the target leaves before."""
        if self._spec.bandwidth:
            try:
                async with asyncio.timeout((self._spec.memory_mib << 20) / self._spec.bandwidth):
                    await reader.read(1)
                    raise self._failure("the target is gone")
            except TimeoutError:
                pass
        self._check()

    def _check(self) -> None:
        if self._cancelled or self._ended.is_set():
            raise self._failure("it ended")

    def _failure(self, why: str) -> MigrationFailed:
        if self._cancelled:
            return MigrationFailed(f"the migration of VM {self._spec.vmi} was cancelled")
        return MigrationFailed(f"VM {self._spec.vmi} did not move: {self._how_ended or why}")


async def _receive(source: socket.socket, size: int) -> bytes:
    """Return exactly ``size`` bytes.

    Raises:
        OSError: If there are not so many.
    """
    data = bytearray()
    while len(data) < size:
        part = await asyncio.get_running_loop().sock_recv(source, min(size - len(data), 1 << 20))
        if not part:
            raise ConnectionAbortedError
        data += part
    return bytes(data)


class SimHypervisor:
    """Makes simulated guests; see :class:`~kubectl_vmredir.lab.guests.domain.Hypervisor`."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._domains: set[SimDomain] = set()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for domain in list(self._domains):
            domain.end("destroyed")
        await self._group.__aexit__(exc_type, exc, traceback)

    async def boot(self, spec: DomainSpec) -> SimDomain:
        """Start a guest."""
        domain = self._make(spec, incoming=False)
        domain.boot()
        return domain

    async def listen(self, spec: DomainSpec) -> SimDomain:
        """Make the target of a migration."""
        domain = self._make(spec, incoming=True)
        domain.listen(self._group)
        return domain

    def _make(self, spec: DomainSpec, *, incoming: bool) -> SimDomain:
        try:
            domain = SimDomain(spec, incoming=incoming, on_end=self._domains.discard)
        except OSError as exc:
            raise LabError(f"cannot start VM {spec.vmi}: {exc}") from exc
        self._domains.add(domain)
        return domain
