"""Links and what is known of slots, by commands in a pod: real ncat, at a socket of the test."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubectl_vmredir.errors import (
    ClusterError,
    ExecFailed,
    Forbidden,
    PathBroken,
    StreamLost,
    VmiNotReady,
    VmRedirError,
)
from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, UserConfig
from kubectl_vmredir.kubevirt import pod_link
from kubectl_vmredir.kubevirt.exec_stream import V4, V5
from kubectl_vmredir.kubevirt.occupancy import NOBODY_KNOWS
from kubectl_vmredir.kubevirt.pod_link import PodLink
from kubectl_vmredir.kubevirt.pod_route import KubevirtPodRoute
from kubectl_vmredir.model import MigrationUid, Route, Unknown, VmiRef, VmiUid, VmiView
from kubectl_vmredir.service.ports import Launcher, Launchers, Link, PodRoute
from tests.support.exec_server import STATUS, STDERR, STDOUT, ExecServer
from tests.support.link_listener import Listener, at_will
from tests.support.scripted_server import BINARY, CLOSE, PONG, Exchange, Script, ScriptedServer
from tests.support.vms import GuestEnd, GuestSocket
from tests.support.websockets import AUTHORITY

DESK = VmiView(VmiRef("demo", "desk"), VmiUid("uid-desk"), phase="Running", node="node1")
LAUNCHER = Launcher(DESK.ref, DESK.uid, "virt-launcher-desk-x2x2x")
SLOT = 2
EVERY_BYTE = bytes(range(256)) * 500

needs_ncat = pytest.mark.skipif(shutil.which("ncat") is None, reason="needs ncat")


class World:
    """A cluster in which every pod is this machine, with a folder of sockets of its own."""

    def __init__(self, folder: Path, protocols: list[str]) -> None:
        self.server = ExecServer(
            protocols=protocols, folders={"/run/kubevirt-private": str(folder)}
        )
        self.sockets = folder / DESK.uid
        self.sockets.mkdir(parents=True)
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.listener = Listener()

    @contextmanager
    def qemu(self) -> Iterator[GuestSocket]:
        with GuestSocket(self.sockets, f"virt-usbredir-{SLOT}") as slot:
            yield slot

    async def carried(self) -> None:
        """Wait until the probe has ended, and what carried the link: nothing is left in the pod."""
        await self.server.exited()
        await self.server.exited()

    def has_only(self, *programs: str) -> None:
        """Let the pod have these programs, and what is in its folder already."""
        for program in ("sh", "uname", "rm", *programs):
            found = shutil.which(program)
            assert found is not None, program
            (self.programs / program).symlink_to(found)
        self.server.path = str(self.programs)

    def has_virsh(self, script: str) -> None:
        """Let the pod have a virsh of ours."""
        virsh = self.programs / "virsh"
        virsh.write_text(f"#!/bin/sh\n{script}\n")
        virsh.chmod(0o755)
        self.server.path = f"{self.programs}:{os.environ['PATH']}"


async def route_to(stack: AsyncExitStack, script: Script, folder: Path) -> KubevirtPodRoute:
    context = AUTHORITY.server_context(folder, "127.0.0.1")
    server = await stack.enter_async_context(ScriptedServer(script, context))
    config = ClusterConfig(server.url, user=UserConfig(token="t"), ca=AUTHORITY.pem)
    return KubevirtPodRoute(await stack.enter_async_context(KubeClient(config)))


@pytest.fixture(params=[V5, V4])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return World(tmp_path / "private", [request.param])


@pytest.fixture
async def route(world: World, tmp_path: Path) -> AsyncIterator[KubevirtPodRoute]:
    async with AsyncExitStack() as stack:
        yield await route_to(stack, world.server, tmp_path)


async def ended(listener: Listener) -> VmRedirError:
    await listener.until(lambda: listener.end)
    assert listener.end is not None
    boundary, cause = listener.end
    assert boundary == Unknown()
    return cause


# -- links ----------------------------------------------------------------------------------


@needs_ncat
async def test_link_carries_every_byte_both_ways_and_counts_ours(
    world: World, route: KubevirtPodRoute
) -> None:
    port: PodRoute = route
    with world.qemu() as slot:
        link: Link = await port.dial(LAUNCHER, SLOT, world.listener, at_will)
        qemu = await slot.accept()

        link.send(EVERY_BYTE)
        assert await qemu.receive(len(EVERY_BYTE)) == EVERY_BYTE
        await qemu.send(EVERY_BYTE)
        await world.listener.until(lambda: len(world.listener.heard) == len(EVERY_BYTE))

        assert bytes(world.listener.heard) == EVERY_BYTE
        assert link.sent == len(EVERY_BYTE)
        assert link.route is Route.POD
        await close_from_both_ends(link, qemu)


async def close_from_both_ends(link: Link, qemu: GuestEnd) -> None:
    """Close a link, and let QEMU do what it does then."""
    async with asyncio.TaskGroup() as group:
        group.create_task(link.close())
        assert await qemu.receive(1) == b""
        qemu.close()


@needs_ncat
async def test_link_that_is_closed_says_so_and_nothing_after_it(
    world: World, route: KubevirtPodRoute
) -> None:
    with world.qemu() as slot:
        link = await route.dial(LAUNCHER, SLOT, world.listener, at_will)
        qemu = await slot.accept()
        link.pause_reading()  # its end has to be heard all the same
        async with asyncio.TaskGroup() as group:
            link.send(b"the last")
            group.create_task(link.close())
            assert await qemu.receive(100) == b"the last"
            await qemu.send(b"not heard any more")
            qemu.close()
        link.send(b"into the void")

    cause = await ended(world.listener)
    assert type(cause) is StreamLost
    assert str(cause) == "closed by us"
    assert bytes(world.listener.heard) == b""


@needs_ncat
async def test_slot_is_free_again_when_a_link_was_closed(tmp_path: Path) -> None:
    world = World(tmp_path / "private", [V5])
    async with AsyncExitStack() as stack:
        route = await route_to(stack, world.server, tmp_path)
        with world.qemu() as slot:
            link = await route.dial(LAUNCHER, SLOT, world.listener, at_will)
            qemu = await slot.accept()
            async with asyncio.TaskGroup() as group:
                closing = group.create_task(link.close())
                assert await qemu.receive(1) == b""
                assert not closing.done()
                qemu.close()


@needs_ncat
async def test_close_waits_a_while_for_a_qemu_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_link, "CLOSE_TIMEOUT_S", 0.05)
    world = World(tmp_path / "private", [V5])
    async with AsyncExitStack() as stack:
        route = await route_to(stack, world.server, tmp_path)
        with world.qemu() as slot:
            link = await route.dial(LAUNCHER, SLOT, world.listener, at_will)
            await slot.accept()

            await link.close()

            assert type(await ended(world.listener)) is StreamLost


@needs_ncat
async def test_link_ends_when_qemu_has_read_all_and_goes(
    world: World, route: KubevirtPodRoute
) -> None:
    with world.qemu() as slot:
        link = await route.dial(LAUNCHER, SLOT, world.listener, at_will)
        qemu = await slot.accept()
        link.send(b"x")
        assert await qemu.receive(1) == b"x"
        await qemu.send(b"goodbye")

        qemu.close()

        cause = await ended(world.listener)
    assert type(cause) is StreamLost
    assert str(cause) == "the VM's end of the stream is gone"
    assert bytes(world.listener.heard) == b"goodbye"
    await world.carried()
    await link.close()


@needs_ncat
async def test_link_ends_when_qemu_goes_with_bytes_unread(
    world: World, route: KubevirtPodRoute
) -> None:
    with world.qemu() as slot:
        link = await route.dial(LAUNCHER, SLOT, world.listener, at_will)
        qemu = await slot.accept()
        link.send(b"read, unread")
        assert await qemu.receive(4) == b"read"

        qemu.close()

        cause = await ended(world.listener)
    assert type(cause) is StreamLost
    assert "Connection reset by peer" in str(cause)


@needs_ncat
async def test_way_that_breaks_is_no_end_of_qemus_and_frees_the_slot(
    world: World, route: KubevirtPodRoute
) -> None:
    """QEMU sees the end of its client."""
    with world.qemu() as slot:
        link = await route.dial(LAUNCHER, SLOT, world.listener, at_will)
        qemu = await slot.accept()
        world.server.tear_after = 3

        link.send(b"abc")

        assert await qemu.receive(100) == b"abc"
        assert type(await ended(world.listener)) is PathBroken


async def dialed_to(
    stack: AsyncExitStack, script: Script, folder: Path, listener: Listener
) -> PodLink:
    """Dial where a script of the test is in the place of what carries the link."""
    probed = ExecServer()

    async def probe_first(exchange: Exchange) -> None:
        await (script if probed.commands else probed)(exchange)

    (folder / "ncat").write_text("")
    (folder / "ncat").chmod(0o755)
    probed.path = f"{folder}:{os.environ['PATH']}"
    route = await route_to(stack, probe_first, folder)
    return await route.dial(LAUNCHER, SLOT, listener, at_will)


@pytest.mark.parametrize("status", [b'{"metadata":{},"status":"Success"}', b"{}", b""])
async def test_success_without_the_last_word_is_a_broken_way(tmp_path: Path, status: bytes) -> None:
    dialed = asyncio.Event()
    listener = Listener()

    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance({"Sec-WebSocket-Protocol": V5}))
        await exchange.frame(BINARY, bytes([STDERR]) + b"Ncat: Connected to /x.\n")
        await dialed.wait()
        if status:
            await exchange.frame(BINARY, bytes([STATUS]) + status)
        await exchange.frame(CLOSE, b"\x03\xe8")
        exchange.say_goodbye()

    async with AsyncExitStack() as stack:
        await dialed_to(stack, script, tmp_path, listener)
        dialed.set()
        cause = await ended(listener)

    assert type(cause) is PathBroken
    assert "the way into the launcher pod broke" in str(cause)


async def test_qemu_that_speaks_is_connected_and_pings_are_answered(tmp_path: Path) -> None:
    listener = Listener()

    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance({"Sec-WebSocket-Protocol": V4}))
        await exchange.frame(BINARY, bytes([STDOUT]) + b"hello")
        _, payload = await exchange.read_frame()
        await exchange.frame(PONG, payload)
        await exchange.until_closed()

    async with AsyncExitStack() as stack:
        link = await dialed_to(stack, script, tmp_path, listener)
        link.ping()
        await listener.until(lambda: listener.round_trips_s)
        await link.close()

    assert bytes(listener.heard) == b"hello"


# -- dials that fail ------------------------------------------------------------------------


@needs_ncat
async def test_slot_that_is_not_there_is_not_ready(world: World, route: KubevirtPodRoute) -> None:
    with pytest.raises(VmiNotReady, match=r"slot 2 of VM demo/desk .*No such file") as caught:
        await route.dial(LAUNCHER, SLOT, world.listener, at_will)

    assert "Version" not in str(caught.value)
    assert world.listener.end is None


async def test_command_that_never_connects_is_given_up(
    world: World, route: KubevirtPodRoute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_link, "CONNECT_TIMEOUT_S", 0.05)
    (world.programs / "ncat").write_text("#!/bin/sh\nexec cat\n")
    (world.programs / "ncat").chmod(0o755)
    world.has_only("cat")

    with pytest.raises(VmiNotReady, match="not connected within"):
        await route.dial(LAUNCHER, SLOT, world.listener, at_will)

    assert world.listener.end is None
    await world.carried()


async def test_pod_without_ncat_says_so_and_is_not_tried_again(
    world: World, route: KubevirtPodRoute
) -> None:
    world.has_only("cat")

    with pytest.raises(ClusterError, match="the launcher pod has no ncat") as caught:
        await route.dial(LAUNCHER, SLOT, world.listener, at_will)

    assert not caught.value.retryable


async def test_pod_without_a_shell_is_told(tmp_path: Path) -> None:
    complaint = 'exec failed: "sh": executable file not found in $PATH'
    status = json.dumps({"status": "Failure", "message": complaint}).encode()

    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance({"Sec-WebSocket-Protocol": V5}))
        await exchange.frame(BINARY, bytes([STATUS]) + status)
        await exchange.frame(CLOSE, b"\x03\xe8")
        exchange.say_goodbye()

    async with AsyncExitStack() as stack:
        route = await route_to(stack, script, tmp_path)
        with pytest.raises(ExecFailed, match="executable file not found"):
            await route.dial(LAUNCHER, SLOT, Listener(), at_will)
        occupancy = await route.occupancy(LAUNCHER)

    assert occupancy.taken == NOBODY_KNOWS
    assert complaint in occupancy.doubt


async def test_who_may_not_exec_is_told(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(403, {"kind": "Status", "message": "no", "reason": "Forbidden"})

    async with AsyncExitStack() as stack:
        route = await route_to(stack, script, tmp_path)
        with pytest.raises(Forbidden) as caught:
            await route.dial(LAUNCHER, SLOT, Listener(), at_will)
        occupancy = await route.occupancy(LAUNCHER)

    assert "pods/exec" in str(caught.value.hint)
    assert occupancy.taken == NOBODY_KNOWS
    assert occupancy.doubt


async def test_dial_that_may_not_be_is_not_made(world: World, route: KubevirtPodRoute) -> None:
    def refuse() -> None:
        raise StreamLost("the gate is shut")

    with pytest.raises(StreamLost, match="shut"):
        await route.dial(LAUNCHER, SLOT, world.listener, refuse)

    assert len(world.server.commands) == 1  # the probe


# -- occupancy ------------------------------------------------------------------------------

SAID = (
    '{"return":[{"frontend-open":true,"label":"charredir0","filename":'
    '"unix:/var/run/kubevirt-private/uid-desk/virt-usbredir-0,server=on"},'
    + ",".join(
        f'{{"frontend-open":true,"label":"charredir{slot}","filename":"disconnected:'
        f'unix:/var/run/kubevirt-private/uid-desk/virt-usbredir-{slot},server=on"}}'
        for slot in (1, 2, 3)
    )
    + '],"id":"libvirt-412"}'
)


async def test_virsh_is_asked_which_slots_are_taken(world: World, route: KubevirtPodRoute) -> None:
    world.has_virsh(
        'case "$*" in\n'
        '"-c qemu:///system qemu-monitor-command demo_desk {\\"execute\\":\\"query-chardev\\"}")\n'
        f"    echo '{SAID}'; echo;;\n"
        "*) echo no socket >&2; exit 1;;\n"
        "esac"
    )

    occupancy = await route.occupancy(LAUNCHER)

    assert occupancy.taken == (True, False, False, False)
    assert occupancy.doubt == ""


@pytest.mark.parametrize(
    ("virsh", "doubt"),
    [
        ("echo no such domain >&2; exit 1", "no such domain"),
        ("echo '{}'", "does not say it of all slots"),
        ("echo nonsense", "does not say it of all slots"),
    ],
)
async def test_what_virsh_does_not_say_is_unknown(
    world: World, route: KubevirtPodRoute, virsh: str, doubt: str
) -> None:
    world.has_virsh(virsh)

    occupancy = await route.occupancy(LAUNCHER)

    assert occupancy.taken == NOBODY_KNOWS
    assert doubt in occupancy.doubt


async def test_pod_without_virsh_knows_nothing(world: World, route: KubevirtPodRoute) -> None:
    world.has_only("timeout")

    occupancy = await route.occupancy(LAUNCHER)

    assert occupancy.taken == NOBODY_KNOWS
    assert occupancy.doubt == "the launcher pod has no virsh"


# -- pods -----------------------------------------------------------------------------------


async def test_pods_are_listed_by_the_labels_of_kubevirt(tmp_path: Path) -> None:
    def pod(name: str, node: str, labels: Mapping[str, str]) -> Mapping[str, Any]:
        return {
            "metadata": {"name": name, "labels": labels},
            "spec": {"nodeName": node},
            "status": {"phase": "Running"},
        }

    targets: list[str] = []

    async def script(exchange: Exchange) -> None:
        targets.append(exchange.target)
        label = {"kubevirt.io/migrationJobUID": "move-1"}
        pods = [pod("source", "node1", {}), pod("target", "node2", label)]
        await exchange.answer(200, {"items": pods, "metadata": {"resourceVersion": "1"}})

    async with AsyncExitStack() as stack:
        route = await route_to(stack, script, tmp_path)
        found = await route.launchers(DESK, MigrationUid("move-1"))

    assert found == Launchers(
        Launcher(DESK.ref, DESK.uid, "source"), Launcher(DESK.ref, DESK.uid, "target")
    )
    (target,) = targets
    assert target.startswith("/api/v1/namespaces/demo/pods?")
    assert "kubevirt.io%2Fcreated-by%3Duid-desk" in target
