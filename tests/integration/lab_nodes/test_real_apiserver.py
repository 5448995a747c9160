"""The lab's controllers and nodes are clients of any API server: here of a real kube-apiserver."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cache import Cache
from kubectl_vmredir.lab.components import Endpoint, run_controllers, run_node
from kubectl_vmredir.lab.moves import Move
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.timeline import Step
from tests.support.guests import EchoHypervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kubectl_vmredir.k8s.client import KubeClient

_ROOT = Path(__file__).parents[3]
_START_LIMIT_S = 180
_LIMIT_S = 30


class User:
    """Somebody with the rights of an administrator, and what they see."""

    def __init__(self, client: KubeClient) -> None:
        self.client = client
        self.cache = Cache(client, {collection: {} for collection in Collection})

    async def migrate(self, **annotations: str) -> Move:
        vmim = {
            "apiVersion": objects.KUBEVIRT_API,
            "kind": "VirtualMachineInstanceMigration",
            "metadata": {"generateName": "move-", "annotations": annotations},
            "spec": {"vmiName": "desk"},
        }
        created = await self.client.create(Collection.VMIMS.of("demo"), vmim)
        self.cache.learn(Collection.VMIMS, created)
        return Move(self.client, self.cache, created)

    def node(self) -> str:
        vmi = self.cache.get(Collection.VMIS, "demo", "desk")
        return str(objects.status(vmi or {}).get("nodeName"))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(_LIMIT_S):
            await self.cache.until(lambda: bool(condition()))


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[User]:
    """Give a real control plane whose controllers and two nodes are the lab's."""
    (folder / "rig").mkdir()
    with (folder / "rig.log").open("wb") as log:
        rig = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.bare_cluster", str(folder / "rig"),
            cwd=_ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    assert rig.stdin is not None
    assert rig.stdout is not None
    try:
        async with asyncio.timeout(_START_LIMIT_S):
            places = json.loads(await rig.stdout.readline())
        endpoint = Endpoint(Path(places["kubeconfig"]), context="admin")
        async with endpoint.client() as client:
            user = User(client)
            await client.create("/api/v1/namespaces/kubevirt/secrets", _secret(places))
            hypervisor = EchoHypervisor()
            async with hypervisor, asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(user.cache.run()),
                    group.create_task(run_controllers(endpoint)),
                    *(
                        group.create_task(
                            run_node(name, folder / name, endpoint, lambda: nullcontext(hypervisor))
                        )
                        for name in ("node1", "node2")
                    ),
                ]
                yield user
                for task in tasks:
                    task.cancel()
    finally:
        rig.stdin.close()
        await rig.wait()


def _secret(places: dict[str, str]) -> dict[str, object]:
    files = {"tls.crt": places["certificate"], "tls.key": places["key"]}
    return {
        "metadata": {"name": "kubevirt-virt-handler-server-certs"},
        "type": "kubernetes.io/tls",
        "data": {
            key: base64.b64encode(Path(path).read_bytes()).decode() for key, path in files.items()
        },
    }


@pytest.mark.cluster
async def test_controllers_and_nodes_work_in_front_of_a_real_kube_apiserver(
    tmp_path: Path,
) -> None:
    vm = {
        "apiVersion": objects.KUBEVIRT_API,
        "kind": "VirtualMachine",
        "metadata": {"name": "desk"},
        "spec": {
            "runStrategy": "Always",
            "template": {"spec": {"domain": {"devices": {"clientPassthrough": {}}}}},
        },
    }
    async with cluster(tmp_path) as user:
        await user.until(lambda: len(user.cache.items(Collection.NODES)) == 2)
        await user.client.create(Collection.VMS.of("demo"), vm)
        await user.until(
            lambda: (
                objects.phase(user.cache.get(Collection.VMIS, "demo", "desk") or {}) == "Running"
            )
        )
        source = user.node()

        assert await (await user.migrate()).finished()
        assert user.node() != source

        move = await user.migrate(**{"lab.vmredir.io/hold-at": Step.PRE_SWITCHOVER})
        await move.held(Step.PRE_SWITCHOVER)
        await move.cancel()
        assert not await move.finished()
        assert user.node() != source

        for node in ("node1", "node2"):
            cordon = {"spec": {"unschedulable": True}}
            await user.client.patch(f"{Collection.NODES}/{node}", cordon)
        at_once = {"kubevirt.io/migrationUnschedulablePodTimeoutSeconds": "0"}
        assert not await (await user.migrate(**at_once)).finished()

        await user.client.delete(f"{Collection.VMS.of('demo')}/desk")
        await user.until(lambda: user.cache.get(Collection.VMIS, "demo", "desk") is None)
