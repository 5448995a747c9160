"""What a pod is found to have, and what that means."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, UserConfig
from kubectl_vmredir.kubevirt.exec import PodExec, PodRef
from kubectl_vmredir.kubevirt.exec_probe import PodProbe, PodTools
from tests.support.exec_server import ExecServer
from tests.support.scripted_server import ScriptedServer
from tests.support.websockets import AUTHORITY

POD = PodRef("demo", "virt-launcher-desk-x2x2x")


class World:
    def __init__(self, pod_exec: PodExec, server: ExecServer, place: Path) -> None:
        self.pod_exec = pod_exec
        self.probe = PodProbe(pod_exec, places=[str(place.parent / "absent"), str(place)])
        self.server = server
        self.folder = place / ".vmredir"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    place = tmp_path / "place"
    place.mkdir()
    server = ExecServer()
    async with AsyncExitStack() as stack:
        context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
        scripted = await stack.enter_async_context(ScriptedServer(server, context))
        config = ClusterConfig(scripted.url, user=UserConfig(token="t"), ca=AUTHORITY.pem)
        client = await stack.enter_async_context(KubeClient(config))
        yield World(PodExec(client), server, place)


async def test_probe_finds_tools_and_a_folder_that_is_ours_alone(world: World) -> None:
    found = await world.probe.ask(POD)

    assert {"cat", "head", "sha256sum", "timeout"} <= found.tools
    assert found.architecture == os.uname().machine
    assert found.folder == str(world.folder)
    assert found.why_no_edge == ""
    assert stat.S_IMODE(world.folder.stat().st_mode) == 0o700
    assert list(world.folder.iterdir()) == []


async def test_probe_for_tools_alone_leaves_nothing(world: World) -> None:
    found = await PodProbe(world.pod_exec).ask(POD)

    assert "cat" in found.tools
    assert found.folder == ""
    assert not world.folder.exists()


async def test_pod_is_probed_once(world: World) -> None:
    first = await world.probe.ask(POD)
    second = await world.probe.ask(POD)

    assert first is second
    assert len(world.server.commands) == 1


async def test_pods_that_are_long_gone_are_forgotten(world: World) -> None:
    await world.probe.ask(POD)
    for number in range(256):
        world.probe._known[PodRef("demo", str(number))] = PodTools(frozenset(), "", "")
    await world.probe.ask(PodRef("demo", "one-more"))

    await world.probe.ask(POD)

    assert len(world.server.commands) == 3


async def test_link_in_the_place_of_our_folder_is_not_used(world: World, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    world.folder.symlink_to(elsewhere)

    found = await world.probe.ask(POD)

    assert found.folder == ""
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("tools", "folder", "why"),
    [
        ({"head", "sha256sum"}, "", "no folder"),
        ({"head"}, "/tmp/x", "has no sha256sum"),
        (set(), "/tmp/x", "has no head and no sha256sum"),
    ],
)
def test_why_there_can_be_no_edge_is_said(tools: set[str], folder: str, why: str) -> None:
    assert why in PodTools(frozenset(tools), "x86_64", folder).why_no_edge


@pytest.mark.parametrize(
    ("tools", "no_link", "no_occupancy"),
    [
        ({"ncat", "cat", "virsh", "timeout"}, "", ""),
        ({"cat", "virsh", "timeout"}, "the launcher pod has no ncat", ""),
        ({"ncat", "cat", "timeout"}, "", "the launcher pod has no virsh"),
    ],
)
def test_what_the_pod_route_lacks_is_said(tools: set[str], no_link: str, no_occupancy: str) -> None:
    found = PodTools(frozenset(tools), "x86_64", "")

    assert (found.why_no_link, found.why_no_occupancy) == (no_link, no_occupancy)
