"""What a pod has, and how the edge gets into it: whole, or not at all."""

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
from kubectl_vmredir.kubevirt.exec_edge import InstalledEdge, PodEdges, PodTools, slot_socket
from kubectl_vmredir.kubevirt.exec_stream import V4, V5
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


async def test_probe_finds_tools_and_a_folder_that_is_ours_alone(world: World) -> None:
    found = await world.edges.probe(POD)

    assert {"head", "sha256sum"} <= found.tools
    assert found.architecture == os.uname().machine
    assert found.folder == str(world.folder)
    assert found.why_no_edge == ""
    assert stat.S_IMODE(world.folder.stat().st_mode) == 0o700
    assert names(world.folder) == []


async def test_pod_is_probed_once(world: World) -> None:
    first = await world.edges.probe(POD)
    second = await world.edges.probe(POD)

    assert first is second
    assert len(world.server.commands) == 1


async def test_pods_that_are_long_gone_are_forgotten(world: World) -> None:
    await world.edges.probe(POD)
    for number in range(256):
        world.edges._known[PodRef("demo", str(number))] = PodTools(frozenset(), "", "")
    await world.edges.probe(PodRef("demo", "one-more"))

    await world.edges.probe(POD)

    assert len(world.server.commands) == 3


async def test_link_in_the_place_of_our_folder_is_not_used(world: World, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    world.folder.symlink_to(elsewhere)

    found = await world.edges.probe(POD)

    assert found.folder == ""
    assert names(elsewhere) == []


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        (PodTools(frozenset({"head", "sha256sum"}), "x86_64", ""), "no folder"),
        (PodTools(frozenset({"head"}), "x86_64", "/tmp/x"), "has no sha256sum"),
        (PodTools(frozenset(), "x86_64", "/tmp/x"), "has no head and no sha256sum"),
    ],
)
def test_why_there_can_be_no_edge_is_said(tools: PodTools, why: str) -> None:
    assert why in tools.why_no_edge


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
