"""Two clusters that must not be told apart: the lab, and a real control plane.

A world is a process of its own (``lab_world.py`` or ``rig_world.py``), which ends when the tests
do. It says where its kubeconfig is, and then obeys orders to do harm to its components; all the
rest is done through the API, by the same code in both. The real one is
``../shared/peers/control-plane``: kube-apiserver, virt-api, virt-controller, virt-handler's
streams and QEMU.
"""

from __future__ import annotations

import asyncio
import enum
import json
import select
import subprocess
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ConfigOptions, load_config
from kubectl_vmredir.lab import objects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.k8s.transport import Access

SPARE_NODE: Final = "node3"
"""Cordoned, so that a test can make it sick while others go on."""

_ROOT: Final = Path(__file__).parents[2]
_START_LIMIT_S: Final = 180.0
_ORDER_LIMIT_S: Final = 60.0
_END_LIMIT_S: Final = 20.0
_REQUEST_LIMIT_S: Final = 20.0


class Kind(enum.StrEnum):
    """Which world."""

    LAB = "lab"
    CLUSTER = "cluster"


class Part(enum.StrEnum):
    """A component that can be harmed; those of nodes are :meth:`handler` and :meth:`node`."""

    API_SERVER = "api-server"
    VIRT_API = "virt-api"
    CONTROLLER = "virt-controller"
    """Only frozen; started, in the real world, if it has ended because it could not lead."""

    @staticmethod
    def handler(node: str) -> str:
        """Return the name of the virt-handler of a node."""
        return f"handler-{node}"

    @staticmethod
    def node(node: str) -> str:
        """Return the name of a node with all that runs there; only frozen, in the real world."""
        return node


@dataclass(frozen=True)
class Places:
    """What a world says when it is ready, as one line of JSON.

    Attributes:
        kubeconfig: With contexts admin (may do all), alice (edit), alice-cert, alice-exec,
            viewer (view) and nobody.
        component_kubeconfig: Of one of KubeVirt's own accounts, which may write status.
        run_folder: Pattern of the folder with a guest's sockets, with ``node``, ``pod`` and
            ``vmi`` (UIDs).
    """

    kubeconfig: str
    component_kubeconfig: str
    run_folder: str


class World:
    """A cluster with nodes ``node1``, ``node2`` and :data:`SPARE_NODE`, and namespace ``demo``."""

    def __init__(self, kind: Kind, process: subprocess.Popen[bytes]) -> None:
        self.kind = kind
        self._process = process
        self._lock = threading.Lock()
        self._places: Places

    def wait_ready(self) -> None:
        """Wait until it has started."""
        self._places = Places(**self._answer(_START_LIMIT_S))

    def end(self) -> None:
        """End it, and all that belongs to it; does nothing the second time."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()

    @property
    def kubeconfig(self) -> Path:
        """For people: contexts admin, alice and others."""
        return Path(self._places.kubeconfig)

    # -- as a client --------------------------------------------------------------------------

    def client(self, user: str = "admin") -> KubeClient:
        """Return our client of the API as the user of one context."""
        return KubeClient(load_config(ConfigOptions(kubeconfig=self.kubeconfig, context=user), {}))

    def component(self) -> KubeClient:
        """Return our client of the API as KubeVirt itself."""
        options = ConfigOptions(kubeconfig=self._places.component_kubeconfig)
        return KubeClient(load_config(options, {}))

    async def access(self, user: str = "admin") -> Access:
        """Return where the API server is, and what proves who we are."""
        async with self.client(user) as client:
            return await client.access()

    @asynccontextmanager
    async def http(
        self, user: str = "admin", *, limit_s: float = _REQUEST_LIMIT_S
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Give an HTTP client that shows answers as they are."""
        access = await self.access(user)
        assert access.ssl_context is not None
        async with httpx.AsyncClient(
            base_url=access.server,
            headers=access.headers,
            verify=access.ssl_context,
            trust_env=False,
            timeout=limit_s,
        ) as http:
            yield http

    def run_folder(self, vmi: JsonObject, node: str) -> Path:
        """Return where the sockets are of the guest of a VMI on a node."""
        for pod, place in objects.status(vmi)["activePods"].items():
            pattern = self._places.run_folder
            folder = Path(pattern.format(node=node, pod=pod, vmi=objects.uid(vmi)))
            if place == node and folder.exists():
                return folder
        raise AssertionError(f"no launcher of {objects.ref(vmi)} on {node}")

    # -- harm ---------------------------------------------------------------------------------

    async def kill(self, part: str) -> None:
        """End a component at once."""
        await self._order("kill", part)

    async def start(self, part: str) -> None:
        """Start a component that was killed; returns when it serves."""
        await self._order("start", part)

    async def freeze(self, part: str) -> None:
        """Stop a component, as SIGSTOP does."""
        await self._order("freeze", part)

    async def thaw(self, part: str) -> None:
        """Let it go on."""
        await self._order("thaw", part)

    async def copying(self) -> None:
        """Wait until the memory of a guest is being copied; no other may be.

        The imitation of libvirt in the real world copes with no target that dies before.
        """
        await self._order("copying")

    async def crash(self, vmi: JsonObject, pod: str) -> None:
        """Kill the guest of a VMI that is in the launcher pod of this name."""
        await self._order("crash", objects.namespace(vmi), pod, objects.uid(vmi))

    async def _order(self, *words: str) -> None:
        def give() -> None:
            assert self._process.stdin is not None
            with self._lock:
                self._process.stdin.write(json.dumps(words).encode() + b"\n")
                self._process.stdin.flush()
                assert self._answer(_ORDER_LIMIT_S) == {}, "an order was answered"

        await asyncio.to_thread(give)

    def _answer(self, limit_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], limit_s)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise RuntimeError(f"world {self.kind} does not answer; see its log")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def start_world(kind: Kind, folder: Path) -> Iterator[World]:
    """Start a world in a folder, and end it with the context; its log is there, too."""
    module = {Kind.LAB: "lab_world", Kind.CLUSTER: "rig_world"}[kind]
    with (
        (folder / "world.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", f"tests.support.{module}", str(folder)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # a ctrl-c is for the tests alone
        ) as process,
    ):
        world = World(kind, process)
        try:
            world.wait_ready()
            yield world
        finally:
            world.end()
