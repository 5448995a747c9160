"""Links into launcher pods by their sockets, on a real control plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from kubectl_vmredir.errors import Forbidden, StreamLost, VmiNotReady
from kubectl_vmredir.kubevirt.cluster import KubevirtCluster
from kubectl_vmredir.kubevirt.pod_route import KubevirtPodRoute
from kubectl_vmredir.lab import objects
from kubectl_vmredir.model import SLOT_COUNT, MigrationUid, VmiView
from kubectl_vmredir.service.ports import Launcher
from tests.support.link_listener import Listener, at_will
from tests.support.vms import SLOW_COPY, GuestSocket, Vm, vm
from tests.support.worlds import Kind, World, start_world

pytestmark = pytest.mark.cluster

EVERY_BYTE = bytes(range(256)) * 500


class Desk:
    """A VM, and the way into its pods for a user who may run commands there."""

    def __init__(self, vm: Vm, cluster: KubevirtCluster, route: KubevirtPodRoute) -> None:
        self.vm = vm
        self.cluster = cluster
        self.route = route

    async def view(self) -> VmiView:
        return await self.cluster.vmi(self.vm.ref)

    async def launcher(self) -> Launcher:
        """Return where the guest runs."""
        found = await self.route.launchers(await self.view(), None)
        assert found.current is not None
        return found.current


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with start_world(Kind.CLUSTER, tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
async def desk(world: World) -> AsyncIterator[Desk]:
    async with vm(world, annotations=SLOW_COPY) as desk, world.client("alice") as client:
        await desk.running()
        yield Desk(desk, KubevirtCluster(client), KubevirtPodRoute(client))


async def test_link_carries_every_byte_and_frees_the_slot(desk: Desk) -> None:
    launcher = await desk.launcher()
    listener = Listener()
    with GuestSocket(await desk.vm.run_folder(), "virt-usbredir-3") as slot:
        link = await desk.route.dial(launcher, 3, listener, at_will)
        qemu = await slot.accept()
        link.send(EVERY_BYTE)
        assert await qemu.receive(len(EVERY_BYTE)) == EVERY_BYTE
        await qemu.send(EVERY_BYTE)
        await listener.until(lambda: len(listener.heard) == len(EVERY_BYTE))
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(link.close())
            assert await qemu.receive(1) == b""
            assert not closing.done()
            qemu.close()

    assert bytes(listener.heard) == EVERY_BYTE
    assert listener.end is not None
    assert str(listener.end[1]) == "closed by us"


async def test_link_ends_when_qemu_goes(desk: Desk) -> None:
    listener = Listener()
    launcher = await desk.launcher()
    with GuestSocket(await desk.vm.run_folder(), "virt-usbredir-0") as slot:
        await desk.route.dial(launcher, 0, listener, at_will)
        qemu = await slot.accept()
        await qemu.send(b"goodbye")
        qemu.close()
        await listener.until(lambda: listener.end)

    assert bytes(listener.heard) == b"goodbye"
    assert listener.end is not None
    assert type(listener.end[1]) is StreamLost


async def test_real_qemu_says_hello_on_the_slot_that_was_dialed(desk: Desk) -> None:
    listener = Listener()

    link = await desk.route.dial(await desk.launcher(), 1, listener, at_will)
    await listener.until(lambda: b"qemu usb-redir guest" in listener.heard)

    await link.close()


async def test_both_pods_of_a_migration_are_found(desk: Desk) -> None:
    source = await desk.launcher()
    name = await desk.vm.migrate()
    vmim = await desk.vm.migration(name, lambda vmim: objects.phase(vmim) == "Running")

    found = await desk.route.launchers(await desk.view(), MigrationUid(objects.uid(vmim)))

    await desk.vm.cancel(name)
    await desk.vm.gone(name)
    assert found.current == source
    assert found.target is not None
    assert {source.pod, found.target.pod} == {*await desk.vm.launchers()}


async def test_what_cannot_be_had_is_said(world: World, desk: Desk) -> None:
    launcher = await desk.launcher()
    (await desk.vm.run_folder() / "virt-usbredir-2").unlink()

    with pytest.raises(VmiNotReady, match="No such file"):
        await desk.route.dial(launcher, 2, Listener(), at_will)
    occupancy = await desk.route.occupancy(launcher)
    assert occupancy.taken == (None,) * SLOT_COUNT
    assert occupancy.doubt == "the launcher pod has no virsh"
    async with world.client("viewer") as client:
        with pytest.raises(Forbidden, match="pods/exec"):
            await KubevirtPodRoute(client).dial(launcher, 0, Listener(), at_will)
