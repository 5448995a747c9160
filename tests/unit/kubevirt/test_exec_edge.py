"""How the edge gets into a pod: whole, or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from kubectl_vmredir.errors import ClusterError, ExecFailed
from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, UserConfig
from kubectl_vmredir.kubevirt.edge.program import EdgeProgram
from kubectl_vmredir.kubevirt.exec import PodExec, PodRef
from kubectl_vmredir.kubevirt.exec_edge import InstalledEdge, PodEdges
from kubectl_vmredir.kubevirt.exec_stream import V4, V5
from kubectl_vmredir.kubevirt.pods import slot_socket
from kubectl_vmredir.model import VmiUid
from tests.support.exec_server import ExecServer
from tests.support.scripted_server import ScriptedServer
from tests.support.websockets import AUTHORITY

POD = PodRef("demo", "virt-launcher-desk-x2x2x")
DATA = b"#!/bin/sh\necho runs\n" + os.urandom(20_000)
PROGRAM = EdgeProgram("x86_64", DATA, hashlib.sha256(DATA).hexdigest())


class World:
    def __init__(self, edges: PodEdges, server: ExecServer, folder: Path) -> None:
        self.edges = edges
        self.server = server
        self.folder = folder


@pytest.fixture(params=[V5, V4])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    place = tmp_path / "place"
    place.mkdir()
    server = ExecServer(protocols=[request.param])
    async with AsyncExitStack() as stack:
        context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
        scripted = await stack.enter_async_context(ScriptedServer(server, context))
        config = ClusterConfig(scripted.url, user=UserConfig(token="t"), ca=AUTHORITY.pem)
        client = await stack.enter_async_context(KubeClient(config))
        edges = PodEdges(PodExec(client), places=[str(tmp_path / "absent"), str(place)])
        yield World(edges, server, place / ".vmredir")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_edge_is_put_there_once_and_can_be_run(world: World) -> None:
    folder = (await world.edges.probe(POD)).folder

    first = await world.edges.install(POD, folder, PROGRAM)
    second = await world.edges.install(POD, folder, PROGRAM)

    path = world.folder / f"edge-{PROGRAM.sha256[:16]}"
    assert first == InstalledEdge(str(path), folder, fresh=True)
    assert second == InstalledEdge(str(path), folder, fresh=False)
    assert path.read_bytes() == DATA
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert names(world.folder) == [path.name]


async def test_nothing_is_sent_to_a_command_that_does_not_read(world: World) -> None:
    folder = (await world.edges.probe(POD)).folder
    await world.edges.install(POD, folder, PROGRAM)
    world.server.tear_after = 0  # the first byte

    again = await world.edges.install(POD, folder, PROGRAM)

    assert not again.fresh


@pytest.mark.parametrize("torn_after", [1, 10_000, len(DATA) - 1])
async def test_torn_upload_leaves_nothing(world: World, torn_after: int) -> None:
    folder = (await world.edges.probe(POD)).folder
    world.server.tear_after = torn_after

    with pytest.raises(ClusterError):
        await world.edges.install(POD, folder, PROGRAM)

    # The probe, the look, the torn upload.
    assert [await world.server.exited() for _ in range(3)] == [0, 0, 4]
    left = names(world.folder)
    world.server.tear_after = None
    again = await world.edges.install(POD, folder, PROGRAM)
    assert left == []
    assert again.fresh
    assert names(world.folder) == [Path(again.path).name]


async def test_upload_of_other_content_leaves_nothing(world: World) -> None:
    folder = (await world.edges.probe(POD)).folder

    with pytest.raises(ExecFailed):
        await world.edges.install(POD, folder, replace(PROGRAM, data=b"x" * len(DATA)))

    assert names(world.folder) == []


async def test_program_that_was_changed_there_is_replaced(world: World) -> None:
    folder = (await world.edges.probe(POD)).folder
    await world.edges.install(POD, folder, PROGRAM)
    path = world.folder / f"edge-{PROGRAM.sha256[:16]}"
    path.write_bytes(b"changed")

    assert (await world.edges.install(POD, folder, PROGRAM)).fresh
    assert path.read_bytes() == DATA


async def test_all_that_is_ours_is_removed(world: World) -> None:
    folder = (await world.edges.probe(POD)).folder
    await world.edges.install(POD, folder, PROGRAM)

    await world.edges.remove(POD, folder)

    assert not world.folder.exists()
    assert (await world.edges.probe(POD)).folder == folder


def test_command_names_the_daemon_and_the_slot() -> None:
    edge = InstalledEdge("/tmp/.vmredir/edge-1", "/tmp/.vmredir", fresh=True)

    command = edge.command(2, slot_socket(VmiUid("u-1"), 2))

    assert command == (
        "/tmp/.vmredir/edge-1",
        "/tmp/.vmredir/2.sock",
        "/run/kubevirt-private/u-1/virt-usbredir-2",
    )
