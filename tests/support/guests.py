"""Guests without a guest: domains that only open their sockets, echo, and move when told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from kubectl_vmredir.errors import MigrationFailed
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.domain import DomainSpec, MigrationPhase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class EchoDomain:
    """A domain whose sockets echo what they get."""

    def __init__(self, spec: DomainSpec, listening: dict[str, EchoDomain]) -> None:
        self._spec = spec
        self._listening = listening
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._loaded = asyncio.Event()
        self._ended = asyncio.Event()
        self._cancelled = False
        self.running = False

    @property
    def spec(self) -> DomainSpec:
        return self._spec

    @property
    def pid(self) -> int | None:
        return None

    @property
    def address(self) -> str:
        return f"echo:{self._spec.run_folder}"

    async def start(self) -> None:
        folder = self._spec.run_folder
        for name in (sockets.CONSOLE, *sockets.SLOTS):
            listener = sockets.listen(folder, name)
            self._servers.append(await asyncio.start_unix_server(self._echo, sock=listener))
        (folder / sockets.CONSOLE_LOG).touch()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def migrate(
        self, address: str, *, on_phase: Callable[[MigrationPhase], Awaitable[None]]
    ) -> None:
        self._cancelled = False
        target = self._listening[address]
        for phase in MigrationPhase:
            await on_phase(phase)
            if self._cancelled:
                raise MigrationFailed("the copy was cancelled")
            if target._ended.is_set():
                raise MigrationFailed("Unable to write to socket: Broken pipe")
        self.running = False
        target._loaded.set()

    async def cancel_migration(self) -> None:
        self._cancelled = True

    async def wait_migrated(self) -> None:
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(e.wait()) for e in (self._loaded, self._ended)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if not self._loaded.is_set():
            raise MigrationFailed("the guest did not come")

    async def resume(self) -> None:
        self.running = True

    async def wait_ended(self) -> str:
        await self._ended.wait()
        return "destroyed"

    async def destroy(self) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        self.running = False
        for server in self._servers:
            server.close()
        for writer in list(self._writers):
            writer.close()
        for name in (sockets.CONSOLE, *sockets.SLOTS):
            (self._spec.run_folder / name).unlink(missing_ok=True)


class EchoHypervisor:
    """Makes echoing domains; nodes that share it can migrate to each other."""

    def __init__(self) -> None:
        self.domains: list[EchoDomain] = []
        self._listening: dict[str, EchoDomain] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for domain in self.domains:
            await domain.destroy()

    async def boot(self, spec: DomainSpec) -> EchoDomain:
        domain = await self._make(spec)
        domain.running = True
        return domain

    async def listen(self, spec: DomainSpec) -> EchoDomain:
        domain = await self._make(spec)
        self._listening[domain.address] = domain
        return domain

    async def _make(self, spec: DomainSpec) -> EchoDomain:
        domain = EchoDomain(spec, self._listening)
        await domain.start()
        self.domains.append(domain)
        return domain
