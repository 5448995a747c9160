"""Real virtctl as a client of the lab's API server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubectl_vmredir.lab.api.server import ApiServer
from tests.support.lab_api import add_vm, add_vmi, fake_handler, vm, vmi
from tests.support.peers import peer
from tests.support.real_clients import LIMIT_S, RealClient

pytestmark = pytest.mark.peers


@pytest.fixture
def virtctl(server: ApiServer, tmp_path: Path) -> RealClient:
    server.write_kubeconfig(tmp_path / "kubeconfig")
    return RealClient(peer("virtctl"), tmp_path / "kubeconfig", tmp_path / "home")


async def test_version(virtctl: RealClient) -> None:
    done = await virtctl("version")

    assert done.status == 0
    assert 'Server Version: version.Info{GitVersion:"v1.9.0"' in done.out


async def test_migrate_needs_the_right_and_then_starts_one_migration(
    server: ApiServer, virtctl: RealClient
) -> None:
    add_vm(server, vm())
    add_vmi(server, vmi())

    forbidden = await virtctl("migrate", "fedora", "--context=alice")
    started = await virtctl("migrate", "fedora", "--context=admin")
    again = await virtctl("migrate", "fedora", "--context=admin")
    cancelled = await virtctl("migrate-cancel", "fedora", "--context=admin")

    assert forbidden.status == 1
    assert 'cannot update resource "virtualmachines/migrate"' in forbidden.err
    assert (started.status, started.out) == (0, "VM fedora was scheduled to migrate\n")
    assert "in-flight migration detected" in again.err
    assert cancelled.status == 0


async def test_usbredir_shows_the_refusals_of_virt_api(
    server: ApiServer, virtctl: RealClient
) -> None:
    add_vmi(server, vmi(passthrough=False))

    missing = await virtctl("usbredir", "--no-launch", "none")
    refused = await virtctl("usbredir", "--no-launch", "fedora")

    assert 'virtualmachineinstance.kubevirt.io "none" not found' in missing.err
    assert "Not configured with USB Redirection" in refused.err


async def test_usbredir_carries_bytes_until_the_node_ends_the_stream(
    server: ApiServer, virtctl: RealClient
) -> None:
    add_vmi(server, vmi())
    async with (
        asyncio.timeout(LIMIT_S),
        fake_handler(server) as handler,
        virtctl.started("usbredir", "--no-launch", "fedora") as process,
    ):
        assert process.stdout is not None
        line = b""
        while b"usbredir client at" not in line:
            line = await process.stdout.readline()
        port = int(line.rpartition(b":")[2])
        node = await handler.stream()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        frame = await node.reader.readexactly(11)
        node.writer.write(b"\x82\x02hi")
        answer = await reader.readexactly(2)
        node.writer.transport.abort()
        _, err = await process.communicate()
        writer.close()

    assert frame[:2] == b"\x82\x85"
    assert bytes(byte ^ frame[2 + at % 4] for at, byte in enumerate(frame[6:])) == b"hello"
    assert answer == b"hi"
    assert b"websocket: close 1006 (abnormal closure): unexpected EOF" in err
