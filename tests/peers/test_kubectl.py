"""Real kubectl on the lab, with guests behind it that move."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
import yaml

from kubectl_vmredir import __version__
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.timeline import Step
from tests.support.programs import a_desk
from tests.support.real_clients import LIMIT_S, RealClient

pytestmark = [pytest.mark.peers, pytest.mark.asyncio(loop_scope="module")]

NAME, NODE_NAME = 0, -2
"""Columns of ``kubectl get vmi``; the IP is empty, and READY the last one."""


async def test_get_vmi_w_shows_the_node_change(lab: Lab, kubectl: RealClient) -> None:
    async with (
        a_desk(lab, "watched") as desk,
        kubectl.started("get", "vmi", "-w", "--no-headers") as process,
        asyncio.timeout(LIMIT_S),
    ):
        assert process.stdout is not None
        source = (await process.stdout.readline()).decode().split()
        move = await lab.migrate(desk.ref)
        row = source
        while row[NODE_NAME] == source[NODE_NAME]:
            row = (await process.stdout.readline()).decode().split()
        assert await move.finished()

    assert source[NAME] == row[NAME] == desk.ref.name
    assert {source[NODE_NAME], row[NODE_NAME]} == {"node1", "node2"}


async def test_get_vmim_o_yaml_of_a_migration_that_is_done(lab: Lab, kubectl: RealClient) -> None:
    async with a_desk(lab, "documented") as desk:
        move = await lab.migrate(desk.ref)
        assert await move.finished()

        done = await kubectl("get", "vmim", move.name, "-o", "yaml")

    vmim = yaml.safe_load(done.out)
    assert vmim["spec"] == {"vmiName": desk.ref.name}
    assert vmim["status"]["phase"] == "Succeeded"
    assert [step["phase"] for step in vmim["status"]["phaseTransitionTimestamps"]] == [
        "Pending", "Scheduling", "Scheduled", "PreparingTarget", "TargetReady", "Running",
        "Succeeded",
    ]  # fmt: skip
    state = vmim["status"]["migrationState"]
    assert {state["sourceNode"], state["targetNode"]} == {"node1", "node2"}
    assert state["completed"] is True


async def test_wait_for_conditions_and_for_the_end_of_a_migration(
    lab: Lab, kubectl: RealClient
) -> None:
    async with a_desk(lab, "awaited") as desk:
        ready = await kubectl("wait", f"vmi/{desk.ref.name}", "--for=condition=Ready")
        migratable = await kubectl("wait", f"vmi/{desk.ref.name}", "--for=condition=LiveMigratable")
        move = await lab.migrate(desk.ref, Step.STARTED)
        await move.held(Step.STARTED)
        over = "--for=jsonpath={.status.phase}=Succeeded"

        too_early = await kubectl("wait", f"vmim/{move.name}", over, "--timeout=0s")
        await move.release()
        in_time = await kubectl("wait", f"vmim/{move.name}", over, "--timeout=15s")

    assert ready.out == f"virtualmachineinstance.kubevirt.io/{desk.ref.name} condition met\n"
    assert migratable.status == 0
    assert too_early.status == 1
    assert in_time.out.endswith(f"/{move.name} condition met\n")


async def test_describe_shows_where_the_vm_is_and_was(lab: Lab, kubectl: RealClient) -> None:
    async with a_desk(lab, "described") as desk:
        assert await (await lab.migrate(desk.ref)).finished()

        done = await kubectl("describe", "vmi", desk.ref.name)

    described = [line.split(":", 1) for line in done.out.splitlines() if ":" in line]
    fields = {key.strip(): value.strip() for key, value in described}
    assert re.search(r"^Kind: +VirtualMachineInstance$", done.out, re.MULTILINE)
    assert fields["vmredir.io/slots"] == "a,b,c,d"
    assert fields["Node Name"] == fields["Target Node"]
    assert fields["Source Node"] != fields["Target Node"]
    assert "Client Passthrough" in fields


async def test_migration_is_created_held_let_go_and_cancelled(
    lab: Lab, kubectl: RealClient
) -> None:
    async with a_desk(lab, "held") as desk:
        manifest = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstanceMigration",
            "metadata": {
                "name": desk.ref.name,
                "annotations": {"lab.vmredir.io/hold-at": "prepared"},
            },
            "spec": {"vmiName": desk.ref.name},
        }
        admin = "--context=admin"
        held = "--for=jsonpath={.metadata.annotations.lab\\.vmredir\\.io/held-at}"
        vmim = f"vmim/{desk.ref.name}"

        created = await kubectl("create", "-f", "-", admin, stdin=json.dumps(manifest))
        waited = await kubectl("wait", vmim, f"{held}=prepared", "--timeout=15s")
        moved_on = await kubectl(
            "annotate", vmim, "lab.vmredir.io/hold-at=detected", "--overwrite", admin
        )
        waited_again = await kubectl("wait", vmim, f"{held}=detected", "--timeout=15s")
        deleted = await kubectl("delete", vmim, admin, "--timeout=15s")

        state = "jsonpath={.status.migrationState.abortStatus}"
        aborted = await kubectl("get", "vmi", desk.ref.name, "-o", state)

    for done in (created, waited, moved_on, waited_again, deleted):
        assert done.status == 0, done.err
    assert aborted.out == "Succeeded"


async def test_our_command_is_a_plugin_of_kubectl(lab: Lab, kubectl: RealClient) -> None:
    async with a_desk(lab, "plugged") as desk:
        version = await kubectl("vmredir", "version")
        slots = await kubectl("vmredir", "slots", desk.ref.name, "-o", "name")

    assert version.out == f"kubectl-vmredir {__version__}\n"
    assert slots.out.split() == [f"{desk.ref.name}/{slot}" for slot in "abcd"]
