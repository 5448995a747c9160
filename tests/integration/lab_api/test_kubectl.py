"""Real kubectl as a client of the lab's API server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from kubectl_vmredir.lab.api.server import ApiServer
from tests.support.lab_api import add_handler_pod, add_vm, add_vmi, vm, vmi
from tests.support.real_clients import LIMIT_S, RealClient

pytestmark = pytest.mark.peers

MIGRATION = """
apiVersion: kubevirt.io/v1
kind: VirtualMachineInstanceMigration
metadata:
  name: move
  namespace: demo
spec:
  vmiName: fedora
"""


@pytest.fixture
def kubectl(server: ApiServer, tmp_path: Path) -> RealClient:
    server.write_kubeconfig(tmp_path / "kubeconfig")
    return RealClient("kubectl", tmp_path / "kubeconfig", tmp_path / "home")


async def test_version(kubectl: RealClient) -> None:
    done = await kubectl("version", "-o", "json")

    assert json.loads(done.out)["serverVersion"]["gitVersion"].startswith("v1.36")


async def test_api_resources(kubectl: RealClient) -> None:
    done = await kubectl("api-resources", "--api-group=kubevirt.io", "--no-headers")

    assert done.status == 0
    assert ["virtualmachineinstances", "vmi,vmis", "kubevirt.io/v1", "true"] in [
        row[:4] for row in done.rows
    ]


@pytest.mark.parametrize("context", ["alice", "alice-cert", "alice-exec"])
async def test_whoami(kubectl: RealClient, context: str) -> None:
    done = await kubectl("auth", "whoami", "--context", context, "-o", "json")

    assert json.loads(done.out)["status"]["userInfo"]["username"] == "alice"


async def test_impersonation(kubectl: RealClient) -> None:
    done = await kubectl(
        "auth", "whoami", "--context=admin", "--as=bob", "--as-group=g", "--as-uid=7", "-o", "json"
    )

    assert json.loads(done.out)["status"]["userInfo"] == {
        "username": "bob",
        "uid": "7",
        "groups": ["g", "system:authenticated"],
    }


async def test_can_i(kubectl: RealClient) -> None:
    answers = [
        (await kubectl("auth", "can-i", *question)).out.strip()
        for question in (("get", "vmi"), ("create", "vmim"), ("create", "pods/exec"))
    ]

    assert answers == ["yes", "no", "yes"]


async def test_can_i_answers_no_about_usbredir_as_on_a_real_cluster(kubectl: RealClient) -> None:
    resource = "virtualmachineinstances.subresources.kubevirt.io"
    done = await kubectl("auth", "can-i", "get", resource, "--subresource=usbredir")

    assert done.out.strip() == "no"


async def test_get_in_all_forms(server: ApiServer, kubectl: RealClient) -> None:
    add_vmi(server, vmi())

    plain = await kubectl("get", "vmi")
    wide = await kubectl("get", "vmi", "-o", "wide")
    name = await kubectl("get", "vmi", "-o", "name")
    obj = await kubectl("get", "vmi", "fedora", "-o", "json")
    yaml = await kubectl("get", "vmi", "fedora", "-o", "yaml")

    assert plain.rows[0] == ["NAME", "AGE", "PHASE", "IP", "NODENAME", "READY"]
    assert [plain.rows[1][0], *plain.rows[1][2:]] == ["fedora", "Running", "node1"]
    assert wide.rows[0][-2:] == ["LIVE-MIGRATABLE", "PAUSED"]
    assert name.out == "virtualmachineinstance.kubevirt.io/fedora\n"
    assert json.loads(obj.out)["status"]["nodeName"] == "node1"
    assert "  nodeName: node1\n" in yaml.out


@pytest.mark.parametrize("resource", ["vm", "vmim", "pods", "nodes", "ns", "events", "leases"])
async def test_get_of_each_resource(server: ApiServer, kubectl: RealClient, resource: str) -> None:
    add_handler_pod(server, "node1", 8186)
    add_vm(server, vm())
    done = await kubectl("get", resource, "-A", "--context=admin")

    assert done.status == 0


async def test_get_of_what_is_not_there_and_of_what_is_not_allowed(kubectl: RealClient) -> None:
    missing = await kubectl("get", "vmi", "none")
    forbidden = await kubectl("get", "vmi", "-A")
    nobody = await kubectl("get", "vmi", "--context=nobody")

    assert missing.err == (
        'Error from server (NotFound): virtualmachineinstances.kubevirt.io "none" not found\n'
    )
    assert 'User "alice" cannot list resource' in forbidden.err
    assert "at the cluster scope" in forbidden.err
    assert 'User "nobody" cannot list resource' in nobody.err
    assert {missing.status, forbidden.status, nobody.status} == {1}


async def test_a_migration_is_created_changed_and_deleted(
    server: ApiServer, kubectl: RealClient
) -> None:
    add_vmi(server, vmi())
    admin = "--context=admin"

    created = await kubectl("create", "-f", "-", admin, stdin=MIGRATION)
    again = await kubectl("create", "-f", "-", admin, stdin=MIGRATION)
    annotated = await kubectl("annotate", "vmim", "move", "a=b", admin)
    labeled = await kubectl("label", "vmim", "move", "c=d", admin)
    patch = '{"metadata":{"annotations":{"a":null}}}'
    patched = await kubectl("patch", "vmim", "move", "--type=merge", "-p", patch, admin)
    deleted = await kubectl("delete", "vmim", "move", "--wait=false", admin)
    operation = '[{"op":"remove","path":"/metadata/finalizers"}]'
    freed = await kubectl("patch", "vmim", "move", "--type=json", "-p", operation, admin)
    left = await kubectl("get", "vmim", "-o", "name", admin)

    name = "virtualmachineinstancemigration.kubevirt.io"
    assert created.out == f"{name}/move created\n"
    assert "in-flight migration detected" in again.err
    assert annotated.out == f"{name}/move annotated\n"
    assert labeled.out == f"{name}/move labeled\n"
    assert patched.out == f"{name}/move patched\n"
    assert deleted.out == f'{name} "move" deleted\n'
    assert freed.status == 0
    assert left.out == ""


async def test_apply(server: ApiServer, kubectl: RealClient) -> None:
    add_vmi(server, vmi())

    first = await kubectl("apply", "-f", "-", "--context=admin", stdin=MIGRATION)
    second = await kubectl("apply", "-f", "-", "--context=admin", stdin=MIGRATION)

    assert first.out.endswith("/move created\n")
    assert second.out.endswith("/move unchanged\n")


async def test_a_node_is_cordoned(kubectl: RealClient) -> None:
    node = "apiVersion: v1\nkind: Node\nmetadata: {name: node1}\n"
    await kubectl("create", "-f", "-", "--context=admin", stdin=node)

    done = await kubectl("cordon", "node1", "--context=admin")
    nodes = await kubectl("get", "nodes", "--no-headers", "--context=admin")

    assert done.out == "node/node1 cordoned\n"
    assert nodes.rows[0][1] == "Unknown,SchedulingDisabled"


async def test_a_watch_shows_each_change(server: ApiServer, kubectl: RealClient) -> None:
    add_vmi(server, vmi())
    async with (
        kubectl.started("get", "vmi", "-w", "--no-headers") as process,
        asyncio.timeout(LIMIT_S),
    ):
        assert process.stdout is not None
        first = (await process.stdout.readline()).split()
        patch = '{"status":{"nodeName":"node2"}}'
        await kubectl(
            "patch", "vmi", "fedora", "--type=merge", "-p", patch, "--context=admin", "-n", "demo"
        )
        second = (await process.stdout.readline()).split()

    assert (first[0], first[3]) == (b"fedora", b"node1")
    assert (second[0], second[3]) == (b"fedora", b"node2")


async def test_a_delete_waits_for_the_finalizer(server: ApiServer, kubectl: RealClient) -> None:
    add_vmi(server, vmi())
    async with kubectl.started("delete", "vmi", "fedora") as process:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            await process.stdout.readline()
            patch = '{"metadata":{"finalizers":null}}'
            await kubectl("patch", "vmi", "fedora", "--type=merge", "-p", patch, "--context=admin")
            assert await process.wait() == 0
