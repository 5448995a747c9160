"""Migrations as a client that watches sees them: the same updates in the same order.

What is expected was recorded once on a real control plane (tests/data/traces). Updates may be
merged into one, but none may come apart or overtake another.

Not here, because this real control plane cannot produce it: post-copy (its nodes do pre-copy),
decentralised migrations (no synchronisation controller), the dialect of KubeVirt <= 1.5, and a
second launcher of a VMI on one node ("Found multiple sockets"). The tracker's and the lab's answers
to these are tested by themselves (tests/unit/service, tests/integration/lab_nodes).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.lab import objects
from tests.support.timelines import changes, recording, trace
from tests.support.vms import SLOW_COPY, cordon, vm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject
    from tests.support.timelines import Change, Event
    from tests.support.vms import Vm
    from tests.support.worlds import World

    Play = Callable[[World, KubeClient, Vm], Awaitable[str]]

VMI, VMIM = "VirtualMachineInstance", "VirtualMachineInstanceMigration"
READY, FLIPPED = "+status.migrationState.targetNodeDomainReadyTimestamp", "~status.nodeName"
LOOSE = frozenset(
    {
        "-metadata.labels.kubevirt.io/migrationTargetNodeName",
        "+status.launcherContainerImageVersion",
    }
)
"""Two writers, neither of which waits for the other."""


def assert_same_course(found: Sequence[Change], expected: Sequence[Change]) -> None:
    """Check that updates are the expected ones in their order, some perhaps in one."""
    place = {part: number for number, change in enumerate(found) for part in change}
    wanted = [part for change in expected for part in change]
    assert sorted(part for change in found for part in change) == sorted(wanted)
    for change in expected:
        assert len({place[part] for part in change}) == 1, f"came apart: {change}"
    order = [change[0] for change in expected if not LOOSE.issuperset(change)]
    for earlier, later in pairwise(order):
        assert place[earlier] <= place[later], f"{later} came before {earlier}"


async def normal(_world: World, _admin: KubeClient, desk: Vm) -> str:
    name = await desk.migrate()
    vmim = await desk.migration(name, objects.is_final)
    assert objects.phase(vmim) == "Succeeded"
    return name


async def cancelled(world: World, _admin: KubeClient, desk: Vm) -> str:
    name = await desk.migrate()
    await desk.migration(name, lambda vmim: objects.phase(vmim) == "Running")
    await world.copying()
    await desk.cancel(name)
    return name


async def failed(world: World, _admin: KubeClient, desk: Vm) -> str:
    name = await desk.migrate()
    await desk.migration(name, lambda vmim: objects.phase(vmim) == "Running")
    await world.copying()
    vmi = await desk.vmi()
    await world.crash(vmi, objects.migration_state(vmi)["targetPod"])
    vmim = await desk.migration(name, objects.is_final)
    assert objects.phase(vmim) == "Failed"
    return name


async def unschedulable(_world: World, admin: KubeClient, desk: Vm) -> str:
    await cordon(admin, "node1", "node2")
    try:
        name = await desk.migrate({"kubevirt.io/migrationUnschedulablePodTimeoutSeconds": "1"})
        vmim = await desk.migration(name, objects.is_final)
    finally:
        await cordon(admin, "node1", "node2", unschedulable=False)
    assert objects.phase(vmim) == "Failed"
    return name


async def cancelled_early(_world: World, admin: KubeClient, desk: Vm) -> str:
    await cordon(admin, "node1", "node2")
    try:
        name = await desk.migrate()
        await desk.migration(name, lambda vmim: objects.phase(vmim) == "Scheduling")
        await desk.cancel(name)
        await desk.gone(name)
    finally:
        await cordon(admin, "node1", "node2", unschedulable=False)
    return name


async def course(world: World, admin: KubeClient, desk: Vm, play: Play) -> list[Event]:
    """Return what a client sees of the desk and its migrations while something is played."""
    async with recording(admin) as seen:
        name = await play(world, admin, desk)
        await seen.until(lambda event: _is_over(name, *event))
        await seen.caught_up(await desk.settled())
    return [
        (kind, obj)
        for kind, obj in seen.events
        if desk.ref.name in (objects.name(obj), objects.spec(obj).get("vmiName"))
    ]


def _is_over(name: str, kind: str, obj: JsonObject) -> bool:
    if objects.name(obj) != name:
        return False
    return kind == "DELETED" or (objects.is_final(obj) and not objects.finalizers(obj))


@pytest.mark.parametrize("play", [normal, cancelled, failed, unschedulable, cancelled_early])
async def test_updates_come_in_the_recorded_order(
    world: World, admin: KubeClient, play: Play
) -> None:
    name = play.__name__.replace("_", "-")
    slow = SLOW_COPY if play in (cancelled, failed) else {}
    async with vm(world, annotations=slow) as desk:
        await desk.settled()
        events = await course(world, admin, desk, play)

    assert_same_course(changes(events, VMI), changes(trace(name), VMI))
    assert_same_course(changes(events, VMIM), changes(trace(name), VMIM))


async def test_node_name_flips_only_after_the_target_runs(
    world: World, admin: KubeClient, desk: Vm
) -> None:
    await desk.settled()
    found = changes(await course(world, admin, desk, normal), VMI)

    [ready] = [number for number, change in enumerate(found) if READY in change]
    [flipped] = [number for number, change in enumerate(found) if FLIPPED in change]
    assert ready < flipped


async def test_a_second_migration_replaces_the_state_of_the_first_whole(
    world: World, admin: KubeClient, desk: Vm
) -> None:
    async def twice(world: World, admin: KubeClient, desk: Vm) -> str:
        await normal(world, admin, desk)
        return await normal(world, admin, desk)

    before = await desk.settled()
    found = changes(await course(world, admin, desk, twice), VMI)

    after = await desk.vmi()
    assert hand_offs(found) == hand_offs(changes(trace("second"), VMI))
    assert objects.status(after)["nodeName"] == objects.status(before)["nodeName"]
    assert len(objects.status(after)["activePods"]) == 3  # of pods that ended, too


def hand_offs(found: Sequence[Change]) -> list[Change]:
    return [
        change
        for change in found
        if any(part.endswith("migrationState.migrationUid") for part in change)
    ]


@pytest.mark.parametrize("play", [cancelled, failed, unschedulable, cancelled_early])
async def test_a_migration_that_ends_badly_can_be_followed_by_one_that_does_not(
    world: World, admin: KubeClient, play: Play
) -> None:
    slow = SLOW_COPY if play in (cancelled, failed) else {}
    async with vm(world, annotations=slow) as desk:
        before = await desk.running()
        await play(world, admin, desk)
        await desk.wait(lambda vmi: not objects.label(vmi, objects.TARGET_NODE_NAME))
        node = objects.status(await desk.vmi())["nodeName"]
        assert node == objects.status(before)["nodeName"]


async def test_one_migration_at_a_time(world: World) -> None:
    async with vm(world, annotations=SLOW_COPY) as slow:
        await slow.running()
        first = await slow.migrate()
        async with world.http("admin") as http:
            answer = await http.post(
                "/apis/kubevirt.io/v1/namespaces/demo/virtualmachineinstancemigrations",
                json={
                    "apiVersion": objects.KUBEVIRT_API,
                    "kind": VMIM,
                    "metadata": {"name": "second"},
                    "spec": {"vmiName": slow.ref.name},
                },
            )
        uid = objects.uid(await slow.migration(first, bool))

    assert answer.status_code == 400
    assert answer.json()["message"] == (
        'admission webhook "migration-create-validator.kubevirt.io" denied the request: in-flight '
        f"migration detected. Active migration job ({uid}) is currently already in progress for "
        f"VMI {slow.ref.name}."
    )
