"""The edge between a device and a real QEMU, and over migrations: the guest notices nothing."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest

from kubectl_vmredir.lab.devices.source import VirtualDevices
from kubectl_vmredir.lab.devices.stick import Stick
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.domain import Domain, DomainSpec, MigrationPhase
from kubectl_vmredir.lab.guests.image.build import build, default_folder
from kubectl_vmredir.lab.guests.qemu import QemuHypervisor
from kubectl_vmredir.lab.guests.report import KernelLine, PassDone
from kubectl_vmredir.model import Exact, VmiRef, VmiUid
from kubectl_vmredir.protocol.edge import Pong, QemuSaid
from kubectl_vmredir.protocol.edge_session import EdgeSession, SessionState
from tests.support.console_facts import facts
from tests.support.edges import compile_edge

pytestmark = pytest.mark.qemu

TIMEOUT_S = 120.0
MIGRATIONS = int(os.environ.get("VMREDIR_EDGE_MIGRATIONS", "3"))


class EdgeLink:
    """A session with an edge through its standard streams, as an exec stream carries them."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._writer, self._reader = process.stdin, process.stdout
        self.session = EdgeSession(secrets.token_bytes(16), wait_s=10, linger_s=5)
        self.said: list[bytes] = []
        self.pongs = 0
        self.on_data: Callable[[bytes], None] = self.said.append
        self._changed = asyncio.Event()
        self.session.tunnel_opened()
        self.flush()

    def flush(self) -> None:
        self._writer.write(self.session.output())

    def send(self, data: bytes) -> None:
        self.session.send(data)
        self.flush()

    async def run(self) -> None:
        while data := await self._reader.read(1 << 16):
            for message in self.session.receive(data):
                if isinstance(message, QemuSaid):
                    self.on_data(message.data)
                elif isinstance(message, Pong):
                    self.pongs += 1
            self.flush()
            self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def linked(edge: Path, domain: Domain) -> AsyncIterator[EdgeLink]:
    """Connect to slot 0 of a guest through an edge of its own."""
    folder = domain.spec.run_folder
    process = await asyncio.create_subprocess_exec(
        edge,
        folder / "edge.sock",
        folder / sockets.SLOTS[0],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    link = EdgeLink(process)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(link.run())
        try:
            await link.until(lambda: link.session.state is not SessionState.OPENING)
            assert link.session.state is SessionState.OPEN
            yield link
        finally:
            if link.session.state is not SessionState.CLOSED:
                link.session.close()
                link.flush()
                await link.until(lambda: link.session.state is SessionState.CLOSED)
            link.session.forget()
            link.flush()
            reading.cancel()
            process.stdin.close()  # type: ignore[union-attr]
            await process.wait()


async def passes(domain: Domain, count: int, lines: list[str]) -> list[PassDone]:
    """Wait until the guest has read the stick so often; kernel messages go to ``lines``."""
    found: list[PassDone] = []
    async with aclosing(facts(domain)) as console:
        async for fact in console:
            if isinstance(fact, KernelLine):
                lines.append(fact.text)
            elif isinstance(fact, PassDone):
                found.append(fact)
                if len(found) == count:
                    break
    return found


async def nothing_to_do(_phase: MigrationPhase) -> None:
    """Let a migration go on."""


async def move(source: Domain, target: Domain, link: EdgeLink, standby: EdgeLink) -> None:
    """Migrate, with the handover of docs/edge.md: all is proven before, exact after."""
    link.session.lockstep(on=True)
    standby.session.ping(1)
    standby.flush()
    link.flush()
    await standby.until(lambda: standby.pongs)
    proven_from = link.session.consumed
    await link.until(lambda: link.session.lockstep_proven and link.session.consumed > proven_from)
    await source.migrate(target.address, on_phase=nothing_to_do)
    await target.wait_migrated()
    link.session.close()
    link.flush()
    await link.until(lambda: link.session.state is SessionState.CLOSED)
    assert isinstance(link.session.boundary, Exact)
    await source.destroy()
    await target.resume()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_edge(tmp_path_factory.mktemp("edge") / "edge", sanitized=True)


async def test_guest_reads_on_over_migrations_and_sees_no_unplug(
    edge: Path, tmp_path: Path
) -> None:
    image = await asyncio.to_thread(build, default_folder())
    content = os.urandom(1 << 20)
    stick = Stick("FLASH001", content)
    lines: list[str] = []
    sha256 = hashlib.sha256(content).hexdigest()
    loop = asyncio.get_running_loop()
    async with (
        asyncio.timeout(TIMEOUT_S),
        QemuHypervisor(image) as hypervisor,
        VirtualDevices([stick]) as devices,
        AsyncExitStack() as stack,
    ):
        specs = [
            DomainSpec(VmiRef("demo", "desk"), VmiUid("1"), tmp_path / str(number))
            for number in range(MIGRATIONS + 1)
        ]
        for spec in specs:
            await asyncio.to_thread(spec.run_folder.mkdir)
        domain = await hypervisor.boot(specs[0])
        link = await stack.enter_async_context(linked(edge, domain))
        (device,) = await devices.devices()
        usb_host = await devices.claim(device)
        stack.enter_context(usb_host.data)
        stack.enter_context(usb_host.control)

        def to_device(data: bytes) -> None:
            usb_host.data.send(data, socket.MSG_DONTWAIT)

        links = [link]

        async def from_device() -> None:
            while data := await loop.sock_recv(usb_host.data, 1 << 16):
                links[-1].send(data)

        async with asyncio.TaskGroup() as group:
            for early in link.said:
                to_device(early)
            link.on_data = to_device
            copying = group.create_task(from_device())
            await passes(domain, 2, lines)
            lines.clear()
            for spec in specs[1:]:
                target = await hypervisor.listen(spec)
                standby = await stack.enter_async_context(linked(edge, target))
                await move(domain, target, link, standby)
                standby.on_data = to_device
                for early in standby.said:  # after all that the source has said
                    to_device(early)
                standby.send(link.session.unconsumed())
                links.append(standby)
                domain, link = target, standby
                done = await passes(domain, 2, lines)
                assert [(each.sha256, each.errors) for each in done] == [(sha256, 0)] * 2
            copying.cancel()

    assert [line for line in lines if "usb" in line.lower()] == []


async def test_end_of_qemu_is_told_with_what_it_had_read(edge: Path, tmp_path: Path) -> None:
    image = await asyncio.to_thread(build, default_folder())
    async with asyncio.timeout(TIMEOUT_S), QemuHypervisor(image) as hypervisor:
        spec = DomainSpec(VmiRef("demo", "desk"), VmiUid("1"), tmp_path)
        domain = await hypervisor.boot(spec)
        async with linked(edge, domain) as link:
            await link.until(lambda: len(b"".join(link.said)) == 80)  # its hello, and no more
            await domain.destroy()
            await link.until(lambda: link.session.state is SessionState.CLOSED)

            assert link.session.boundary == Exact(0)
