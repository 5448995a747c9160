"""Commands in launcher pods, and the edge through them, on a real control plane."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from kubectl_vmredir.errors import ExecFailed, Forbidden, VmRedirError
from kubectl_vmredir.kubevirt.edge.program import EdgeProgram
from kubectl_vmredir.kubevirt.exec import PodExec, PodRef
from kubectl_vmredir.kubevirt.exec_edge import InstalledEdge, PodEdges
from kubectl_vmredir.kubevirt.exec_stream import ExecStatus, ExecStream
from kubectl_vmredir.kubevirt.pods import slot_socket
from kubectl_vmredir.lab import objects
from kubectl_vmredir.model import Exact, VmiUid
from kubectl_vmredir.protocol.edge import QemuSaid
from kubectl_vmredir.protocol.edge_session import EdgeSession, SessionState
from tests.support.edges import compile_edge
from tests.support.link_listener import at_will
from tests.support.vms import GuestEnd, GuestSocket, Vm, vm
from tests.support.worlds import Kind, World, start_world

pytestmark = pytest.mark.cluster

LIMIT_S = 30.0


class EdgeEars:
    """An edge's session over exec streams, which come and go."""

    def __init__(self) -> None:
        self.session = EdgeSession(secrets.token_bytes(16), wait_s=10, linger_s=30)
        self.heard = bytearray()
        self.ends = 0
        self.stream: ExecStream | None = None
        self._changed = asyncio.Event()

    async def dial(self, pod_exec: PodExec, pod: PodRef, command: tuple[str, ...]) -> None:
        self.session.tunnel_opened()
        self.stream = await pod_exec.open(pod, command, self, at_will)
        self.flush()

    def flush(self) -> None:
        assert self.stream is not None
        self.stream.send(self.session.output())

    def send(self, data: bytes) -> None:
        self.session.send(data)
        self.flush()

    def exec_output(self, data: memoryview) -> None:
        for message in self.session.receive(data):
            if isinstance(message, QemuSaid):
                self.heard += message.data
        if self.stream is not None:
            self.flush()
        self._changed.set()

    def exec_complained(self, complaint: str) -> None:
        """Nothing to do: what is not right shows in the session."""

    def exec_writable(self, writable: bool) -> None:
        """Nothing to do: the window bounds what is queued."""

    def exec_pong(self, round_trip_s: float) -> None:
        """Nothing to do."""

    def exec_ended(self, cause: VmRedirError, status: ExecStatus | None) -> None:
        self.ends += 1
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Launcher:
    """A VM's launcher pod, and a user who may run commands there."""

    def __init__(self, desk: Vm, pod: PodRef, uid: VmiUid, pod_exec: PodExec) -> None:
        self.desk = desk
        self.pod = pod
        self.uid = uid
        self.pod_exec = pod_exec
        self.edges = PodEdges(pod_exec)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> EdgeProgram:
    data = compile_edge(
        tmp_path_factory.mktemp("edge") / "edge", sanitized=False, flags=("-static",)
    ).read_bytes()
    return EdgeProgram(os.uname().machine, data, hashlib.sha256(data).hexdigest())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with start_world(Kind.CLUSTER, tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
async def launcher(world: World) -> AsyncIterator[Launcher]:
    async with vm(world) as desk, world.client("alice") as client:
        vmi = await desk.running()
        (name,) = await desk.launchers()
        pod = PodRef(desk.ref.namespace, name)
        yield Launcher(desk, pod, VmiUid(objects.uid(vmi)), PodExec(client))


async def installed(launcher: Launcher, program: EdgeProgram) -> InstalledEdge:
    tools = await launcher.edges.probe(launcher.pod)
    assert tools.why_no_edge == ""
    return await launcher.edges.install(launcher.pod, tools.folder, program)


async def test_pod_tells_what_it_has(launcher: Launcher) -> None:
    found = await launcher.edges.probe(launcher.pod)

    assert {"ncat", "head", "sha256sum"} <= found.tools
    assert found.architecture == os.uname().machine
    assert found.folder == "/run/kubevirt-private/.vmredir"


async def test_edge_carries_bytes_over_torn_execs_and_tells_the_exact_end(
    launcher: Launcher, program: EdgeProgram
) -> None:
    edge = await installed(launcher, program)
    command = edge.command(0, slot_socket(launcher.uid, 0))
    ears = EdgeEars()
    with GuestSocket(await launcher.desk.run_folder(), "virt-usbredir-0") as slot:
        await ears.dial(launcher.pod_exec, launcher.pod, command)
        guest: GuestEnd = await slot.accept()
        await ears.until(lambda: ears.session.state is SessionState.OPEN)
        ears.send(bytes(range(256)) * 100)
        assert await guest.receive(25_600) == bytes(range(256)) * 100
        await ears.until(lambda: ears.session.consumed == 25_600)

        assert ears.stream is not None
        torn, ears.stream = ears.stream, None
        await torn.close()
        await guest.send(b"while there was no tunnel")
        ears.session.lockstep(on=True)
        await ears.dial(launcher.pod_exec, launcher.pod, command)
        await ears.until(lambda: ears.session.lockstep_proven and len(ears.heard) == 25)
        ears.send(b"x" * 6000)
        assert await guest.receive(4096) == b"x" * 4096
        guest.close()
        await ears.until(lambda: ears.session.state is SessionState.CLOSED)

    assert bytes(ears.heard) == b"while there was no tunnel"
    assert ears.session.boundary == Exact(25_600 + 4096)
    ears.session.forget()
    ears.flush()
    await ears.until(lambda: ears.ends == 2)


async def test_edge_is_put_there_once_and_removed(launcher: Launcher, program: EdgeProgram) -> None:
    first = await installed(launcher, program)
    second = await installed(launcher, program)
    await launcher.edges.remove(launcher.pod, first.folder)

    assert (first.fresh, second.fresh) == (True, False)
    with pytest.raises(ExecFailed):
        await launcher.pod_exec.run(
            launcher.pod, '[ -e "$1" ] && echo there', first.folder, last_word="there"
        )


async def test_who_may_only_view_may_run_nothing(world: World, launcher: Launcher) -> None:
    async with world.client("viewer") as client:
        with pytest.raises(Forbidden, match="pods/exec"):
            await PodEdges(PodExec(client)).probe(launcher.pod)


async def test_pod_that_is_not_there_is_said(launcher: Launcher) -> None:
    with pytest.raises(ExecFailed, match="not found"):
        await launcher.edges.probe(PodRef("demo", "virt-launcher-gone"))
