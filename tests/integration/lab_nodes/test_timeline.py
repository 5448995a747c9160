"""The updates of a migration come in the order of the recorded traces, with the same fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.nodes.means import NodeOptions
from kubectl_vmredir.lab.timeline import Dialect, Step
from tests.support.labs import DESK, echo_lab
from tests.support.timelines import Change, changes, recording, trace

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_vmredir.lab.cluster import Lab
    from tests.support.timelines import Event

VMI, VMIM = "VirtualMachineInstance", "VirtualMachineInstanceMigration"
LABEL_GONE = ("-metadata.labels.kubevirt.io/migrationTargetNodeName",)
IMAGE_TOLD = ("+status.launcherContainerImageVersion",)
"""The last two updates of the VMI come in either order, in the traces as here."""


def settled(found: list[Change]) -> list[Change]:
    loose = [change for change in found if change in (LABEL_GONE, IMAGE_TOLD)]
    return [change for change in found if change not in (LABEL_GONE, IMAGE_TOLD)] + sorted(loose)


async def wait_settled(lab: Lab, uid: str) -> None:
    """Wait until nobody has anything to do for a migration any more."""

    def nothing_due() -> bool:
        vmi = lab.vmi(DESK)
        assert vmi is not None
        return not objects.label(vmi, objects.TARGET_NODE_NAME) and "" not in (
            objects.status(vmi).get("launcherContainerImageVersion", ""),
            *objects.status(vmi)["activePods"].values(),
        )

    def released() -> bool:
        vmim = lab.cache.by_uid(uid)
        return vmim is None or not objects.finalizers(vmim)

    await lab.until(lambda: nothing_due() and released(), f"migration {uid} is settled")


async def normal(lab: Lab) -> str:
    move = await lab.migrate(DESK)
    assert await move.finished()
    return move.uid


async def cancelled(lab: Lab) -> str:
    move = await lab.migrate(DESK, Step.PRE_SWITCHOVER)
    await move.held(Step.PRE_SWITCHOVER)
    await move.cancel()
    assert not await move.finished()
    return move.uid


async def failed(lab: Lab) -> str:
    move = await lab.migrate(DESK, Step.PRE_SWITCHOVER)
    await move.held(Step.PRE_SWITCHOVER)
    await lab.crash(DESK, "targetPod")
    assert not await move.finished()
    return move.uid


async def unschedulable(lab: Lab) -> str:
    await lab.faults.cordon()
    at_once = {"kubevirt.io/migrationUnschedulablePodTimeoutSeconds": "0"}
    move = await lab.migrate(DESK, annotations=at_once)
    assert not await move.finished()
    return move.uid


async def cancelled_early(lab: Lab) -> str:
    await lab.faults.cordon()
    move = await lab.migrate(DESK)
    await lab.until(lambda: move.vmim and objects.phase(move.vmim) == "Scheduling", "it is tried")
    await move.cancel()
    assert not await move.finished()
    return move.uid


async def recorded(folder: Path, play: object) -> list[Event]:
    assert callable(play)
    async with echo_lab(folder) as lab:
        async with recording(lab.client) as seen:
            await wait_settled(lab, await play(lab))
        return seen.events


@pytest.mark.parametrize("play", [normal, cancelled, failed, unschedulable, cancelled_early])
async def test_updates_are_those_of_the_recorded_trace(tmp_path: Path, play: object) -> None:
    name = play.__name__.replace("_", "-")  # type: ignore[attr-defined]

    events = await recorded(tmp_path, play)

    assert settled(changes(events, VMI)) == settled(changes(trace(name), VMI))
    assert changes(events, VMIM) == changes(trace(name), VMIM)


async def test_the_second_migration_replaces_the_state_of_the_first_whole(tmp_path: Path) -> None:
    async with echo_lab(tmp_path) as lab, recording(lab.client) as seen:
        await wait_settled(lab, await normal(lab))
        await wait_settled(lab, await normal(lab))

    assert _hand_offs(seen.events) == _hand_offs(trace("second"))


def _hand_offs(events: list[Event]) -> list[Change]:
    return [
        change
        for change in changes(events, VMI)
        if any(part.endswith("migrationState.migrationUid") for part in change)
    ]


async def test_kubevirt_1_5_flips_and_completes_in_one_update_of_the_source(
    tmp_path: Path,
) -> None:
    options = NodeOptions(dialect=Dialect.SOURCE_ACKS)
    async with echo_lab(tmp_path, options=options) as lab, recording(lab.client) as seen:
        await wait_settled(lab, await normal(lab))

    flips = [change for change in changes(seen.events, VMI) if "~status.nodeName" in change]
    assert flips == [
        (
            "+status.migrationState.completed",
            "+status.migrationState.endTimestamp",
            "-status.launcherContainerImageVersion",
            "~metadata.labels.kubevirt.io/nodeName",
            "~status.nodeName",
        )
    ]
