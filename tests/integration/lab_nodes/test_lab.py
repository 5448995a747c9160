"""The lab as a whole: VMs come, move and go, whatever happens to the components."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.errors import ClusterError, LabError
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cluster import CONTROLLERS
from kubectl_vmredir.lab.faults import Fault
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.timeline import MIN_NODE_NAME_GAP_S, Step
from kubectl_vmredir.model import VmiRef
from tests.support.clocks import ManualClock
from tests.support.labs import DESK, echo_lab

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.cluster import Lab

SHELF = VmiRef("demo", "shelf")


def node_of(lab: Lab, ref: VmiRef = DESK) -> str:
    vmi = lab.vmi(ref)
    assert vmi is not None
    return str(objects.status(vmi)["nodeName"])


# -- VMs -------------------------------------------------------------------------------------------


async def test_a_vm_starts_moves_and_is_gone_with_all_that_was_its_own(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        vmi = lab.vmi(DESK)
        assert vmi is not None
        assert vmi["metadata"]["annotations"]["vmredir.io/slots"] == "flash"
        assert node_of(lab) == "node1"

        assert await (await lab.migrate(DESK)).finished()
        await lab.wait_vmi(DESK, lambda vmi: objects.status(vmi)["nodeName"] == "node2")
        logs = lab.console_log(DESK)
        await lab.delete_vm(DESK)

        assert [path.relative_to(tmp_path).parts[0] for path in logs] == ["node1", "node2"]
        launchers = {"labelSelector": f"{objects.APP}={objects.LAUNCHER}"}
        left = await lab.client.list_all(Collection.PODS.of("demo"), launchers)
        assert left.items == []


async def test_a_vm_that_was_deleted_can_be_created_again_at_once(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        await lab.delete_vm(DESK)

        await lab.create_vm(DESK, slots=("other",))

        vmi = await lab.wait_running(DESK)
        assert vmi["metadata"]["annotations"]["vmredir.io/slots"] == "other"


async def test_a_guest_that_dies_is_started_again_as_another_vmi(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        first = lab.vmi(DESK)
        assert first is not None
        (pod,) = (
            await lab.client.list_all(
                Collection.PODS.of("demo"),
                {"labelSelector": f"{objects.CREATED_BY}={objects.uid(first)}"},
            )
        ).items

        crash = {"metadata": {"annotations": {objects.LAB_CRASH: "now"}}}
        await lab.client.patch(Collection.PODS.path(pod), crash)

        def restarted(vmi: JsonObject) -> bool:
            assert first is not None
            return objects.uid(vmi) != objects.uid(first) and objects.phase(vmi) == "Running"

        await lab.wait_vmi(DESK, restarted)


async def test_a_halted_vm_has_no_vmi_until_it_is_told_to_run(tmp_path: Path) -> None:
    async with echo_lab(tmp_path, vm=None) as lab:
        await lab.create_vm(DESK, running=False)
        path = f"{Collection.VMS.of('demo')}/desk"

        async def status(wanted: str) -> None:
            await lab.until(
                lambda: (
                    objects.status(lab.cache.get(Collection.VMS, "demo", "desk") or {}).get(
                        "printableStatus"
                    )
                    == wanted
                ),
                f"VM is {wanted}",
            )

        await status("Stopped")
        assert lab.vmi(DESK) is None
        await lab.client.patch(path, {"spec": {"runStrategy": "Always"}})
        await status("Running")
        await lab.client.patch(path, {"spec": {"runStrategy": "Halted"}})
        await status("Stopped")
        assert lab.vmi(DESK) is None


async def test_two_vms_move_at_the_same_time_each_to_the_other_node(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        await lab.create_vm(SHELF)
        await lab.wait_running(SHELF)
        assert (node_of(lab), node_of(lab, SHELF)) == ("node1", "node2")

        moves = [await lab.migrate(ref) for ref in (DESK, SHELF)]

        assert [await move.finished() for move in moves] == [True, True]
        assert (node_of(lab), node_of(lab, SHELF)) == ("node2", "node1")


async def test_a_second_migration_of_a_vm_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        move = await lab.migrate(DESK, Step.PREPARED)

        with pytest.raises(ClusterError, match="in-flight migration detected"):
            await lab.migrate(DESK)

        await move.release()
        assert await move.finished()


async def test_only_the_last_five_finished_migrations_are_kept(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        names = []
        for _ in range(7):
            move = await lab.migrate(DESK)
            assert await move.finished()
            names.append(move.name)

        await lab.until(
            lambda: (
                {objects.name(vmim) for vmim in lab.cache.items(Collection.VMIMS)} == set(names[2:])
            ),
            "the oldest two are gone",
        )


async def test_a_target_has_to_have_the_labels_that_are_asked_for(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        nowhere = await lab.migrate(DESK, node_selector={"disk": "ssd"})
        await lab.until(lambda: _unschedulable(lab, nowhere.uid), "no node is found")
        await nowhere.cancel()
        assert not await nowhere.finished()

        change = {"metadata": {"labels": {"disk": "ssd"}}}
        await lab.client.patch(f"{Collection.NODES}/node2", change)
        assert await (await lab.migrate(DESK, node_selector={"disk": "ssd"})).finished()


def _unschedulable(lab: Lab, uid: str) -> bool:
    return any(
        objects.condition(pod, "PodScheduled").get("reason") == "Unschedulable"
        for pod in lab.cache.items(Collection.PODS)
        if objects.label(pod, objects.MIGRATION_JOB_UID) == uid
    )


# -- components that die ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step", [Step.PENDING, Step.SCHEDULED, Step.HANDED_OFF, Step.PRE_SWITCHOVER, Step.NODE_FLIPPED]
)
async def test_controllers_killed_in_mid_migration_and_started_again_finish_it(
    tmp_path: Path, step: Step
) -> None:
    async with echo_lab(tmp_path) as lab:
        move = await lab.migrate(DESK, step)
        await move.held(step)
        await lab.kill(CONTROLLERS)
        await move.release()

        await lab.start_controllers()

        assert await move.finished()
        assert node_of(lab) == "node2"


async def test_a_node_that_is_lost_takes_its_guests_with_it(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        first = lab.vmi(DESK)
        assert first is not None

        await lab.kill("node1")
        await lab.start_node("node1")

        def restarted(vmi: JsonObject) -> bool:
            assert first is not None
            return objects.uid(vmi) != objects.uid(first) and objects.phase(vmi) == "Running"

        await lab.wait_vmi(DESK, restarted)


async def test_an_api_server_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        assert lab.api is not None
        move = await lab.migrate(DESK, Step.PREPARED)
        await move.held(Step.PREPARED)

        await lab.api.stop()
        await lab.api.start()

        await move.release()
        assert await move.finished()
        assert node_of(lab) == "node2"


async def test_a_lab_that_ended_is_gone_on_with_in_the_same_folder(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        before = lab.vmi(DESK)
        assert before is not None

    async with echo_lab(tmp_path, vm=None) as lab:

        def restarted(vmi: JsonObject) -> bool:
            assert before is not None
            return objects.uid(vmi) != objects.uid(before) and objects.phase(vmi) == "Running"

        await lab.wait_vmi(DESK, restarted)
        assert await (await lab.migrate(DESK)).finished()


# -- time and faults -------------------------------------------------------------------------------


async def test_node_name_flips_when_the_gap_is_over_and_not_before(tmp_path: Path) -> None:
    clock = ManualClock()
    async with echo_lab(tmp_path, clock=clock) as lab:
        move = await lab.migrate(DESK)
        await clock.asleep_for(MIN_NODE_NAME_GAP_S)

        clock.advance(MIN_NODE_NAME_GAP_S * 0.9)
        assert 0.01 in clock.sleeps_s
        assert node_of(lab) == "node1"
        clock.advance(MIN_NODE_NAME_GAP_S * 0.1)

        assert await move.finished()
        assert node_of(lab) == "node2"


async def test_a_slow_flip_is_slower(tmp_path: Path) -> None:
    clock = ManualClock()
    async with echo_lab(tmp_path, clock=clock) as lab:
        await lab.faults.make(Fault.SLOW_FLIP, 18)
        move = await lab.migrate(DESK)
        await clock.asleep_for(MIN_NODE_NAME_GAP_S)
        clock.advance(MIN_NODE_NAME_GAP_S)

        await clock.asleep_for(18)
        assert node_of(lab) == "node1"
        clock.advance(18)

        assert await move.finished()


async def test_an_unschedulable_target_is_given_up_in_time(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        await lab.faults.cordon()
        limit = {"kubevirt.io/migrationUnschedulablePodTimeoutSeconds": "1"}

        move = await lab.migrate(DESK, annotations=limit)

        assert not await move.finished()
        assert node_of(lab) == "node1"


async def test_a_fault_lets_migrations_fail_until_it_ends(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        await lab.faults.make(Fault.FAILED_MIGRATION, node="node1")

        assert not await (await lab.migrate(DESK)).finished()
        vmi = await lab.wait_vmi(DESK, lambda vmi: objects.migration_state(vmi).get("failed"))
        assert "Broken pipe" in objects.migration_state(vmi)["failureReason"]
        assert node_of(lab) == "node1"

        await lab.faults.end(Fault.FAILED_MIGRATION, node="node1")
        assert await (await lab.migrate(DESK)).finished()


@pytest.mark.parametrize("step", [Step.PREPARED, Step.DETECTED, Step.PRE_SWITCHOVER])
async def test_a_source_that_dies_in_mid_migration_is_the_end_of_the_vmi(
    tmp_path: Path, step: Step
) -> None:
    async with echo_lab(tmp_path) as lab:
        first = lab.vmi(DESK)
        assert first is not None
        move = await lab.migrate(DESK, step)
        await move.held(step)

        await lab.crash(DESK, "sourcePod")

        assert not await move.finished()
        await lab.wait_vmi(DESK, lambda vmi: objects.uid(vmi) != objects.uid(first))


async def test_waiting_for_a_hold_that_never_comes_says_so(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab:
        move = await lab.migrate(DESK, Step.PRE_SWITCHOVER)
        await move.held(Step.PRE_SWITCHOVER)
        await lab.crash(DESK, "targetPod")

        with pytest.raises(LabError, match="ended before it was held"):
            await move.held(Step.COMPLETED)


# -- safety ----------------------------------------------------------------------------------------


async def test_nobody_else_can_read_what_opens_the_lab(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    async with echo_lab(folder, vm=None) as lab:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(lab.kubeconfig.stat().st_mode) == 0o600
        for path in folder.rglob("*.kubeconfig"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
