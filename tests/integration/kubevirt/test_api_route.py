"""KubeVirt's adapter on the lab: API server, controllers, nodes and streams as they are."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kubectl_vmredir.errors import (
    ClusterError,
    Forbidden,
    LoginRequired,
    NoUsbSlots,
    SlotsFull,
    StreamLost,
    VmiNotFound,
    VmRedirError,
)
from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ConfigOptions, load_config
from kubectl_vmredir.kubevirt.cluster import KubevirtCluster
from kubectl_vmredir.kubevirt.dial import ApiDialer, ApiLink
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.model import Unknown, VmiRef, VmiView
from kubectl_vmredir.service.ports import ClusterEvent, VmiSeen, WatchRestored
from tests.support.labs import DESK, echo_lab
from tests.support.link_listener import Listener, at_will


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with echo_lab(tmp_path) as lab:
        yield lab


@asynccontextmanager
async def client_of(lab: Lab, context: str = "alice", **options: str) -> AsyncIterator[KubeClient]:
    """Give a client of the lab as one of its users."""
    chosen = ConfigOptions(kubeconfig=lab.kubeconfig, context=context, **options)  # type: ignore[arg-type]
    async with KubeClient(load_config(chosen, {})) as client:
        yield client


async def test_link_carries_bytes_both_ways_in_fragments_of_any_size(lab: Lab) -> None:
    listener, data = Listener(), os.urandom(1 << 20)
    async with client_of(lab) as client:
        link = await ApiDialer(client).dial(DESK, listener, at_will)
        for start in range(0, len(data), 70_001):
            link.send(data[start : start + 70_001])
        await listener.until(lambda: len(listener.heard) == len(data))
        link.ping()
        await listener.until(lambda: listener.round_trips_s)
        await link.close()

    assert bytes(listener.heard) == data
    assert link.sent == len(data)
    assert listener.end is not None
    assert listener.end[0] == Unknown()


async def test_fifth_link_finds_all_slots_taken_until_one_is_closed(lab: Lab) -> None:
    async with client_of(lab) as client:
        dialer = ApiDialer(client)
        links = [await dialer.dial(DESK, Listener(), at_will) for _ in range(4)]
        with pytest.raises(SlotsFull):
            await dialer.dial(DESK, Listener(), at_will)
        await links.pop().close()
        links.append(await _dial_again(dialer))
        for link in links:
            await link.close()


async def _dial_again(dialer: ApiDialer) -> ApiLink:
    """Dial until the slot that was closed is free: that is known a moment later."""
    async with asyncio.timeout(5):
        while True:
            try:
                return await dialer.dial(DESK, Listener(), at_will)
            except SlotsFull:
                await asyncio.sleep(0)


async def test_link_ends_when_the_vm_moves_and_leads_to_the_new_node_after_the_flip(
    lab: Lab,
) -> None:
    old, new = Listener(), Listener()
    async with client_of(lab) as client:
        dialer = ApiDialer(client)
        await dialer.dial(DESK, old, at_will)
        cluster = KubevirtCluster(client)
        async with cluster.watch("demo", "desk") as events:
            await lab.migrate(DESK)
            seen = await _until_on(events, "node2")
        await old.until(lambda: old.end)
        link = await dialer.dial(DESK, new, at_will)
        link.send(b"still there?")
        await new.until(lambda: new.heard)
        await link.close()

    assert old.end is not None
    assert type(old.end[1]) is StreamLost
    assert bytes(new.heard) == b"still there?"
    uids = {view.migration.uid for view in seen if view.migration}
    assert len(uids) == 1
    assert seen[-1].migration is not None
    assert seen[-1].migration.target_node == "node2"


async def _until_on(events: AsyncIterator[ClusterEvent], node: str) -> list[VmiView]:
    views = []
    async with asyncio.timeout(20):
        async for event in events:
            if isinstance(event, VmiSeen):
                views.append(event.vmi)
                if event.vmi.node == node:
                    break
    return views


async def test_watch_tells_what_is_there_then_that_it_is_all(lab: Lab) -> None:
    async with client_of(lab) as client, KubevirtCluster(client).watch("demo") as events:
        async with asyncio.timeout(5):
            first, second = await anext(events), await anext(events)

    assert isinstance(first, VmiSeen)
    assert first.vmi.ref == DESK
    assert first.vmi.slots[0] == "flash"
    assert second == WatchRestored()


async def test_alice_sees_her_namespace_and_is_known_by_name(lab: Lab) -> None:
    async with client_of(lab) as client:
        cluster = KubevirtCluster(client)
        found = await cluster.vmis(None)
        who = await cluster.identity()

    assert [view.ref for view in found] == [DESK]
    assert who.username == "alice"
    assert who.reviewed


async def test_owner_of_a_vm_may_not_move_it_and_is_told_which_role_may(lab: Lab) -> None:
    async with client_of(lab) as client:
        with pytest.raises(Forbidden) as caught:
            await KubevirtCluster(client).migrate(DESK)

    assert caught.value.hint is not None
    assert "kubevirt.io:migrate" in caught.value.hint


async def test_admin_moves_a_vm(lab: Lab) -> None:
    async with client_of(lab, "admin") as client:
        cluster = KubevirtCluster(client)
        async with cluster.watch("demo", "desk") as events:
            move = await cluster.migrate(DESK)
            await _until_on(events, "node2")

    assert move.vmi_name == "desk"
    assert move.name.startswith("kubevirt-migrate-vm-")


@pytest.mark.parametrize(
    ("vmi", "error"), [(VmiRef("demo", "nope"), VmiNotFound), (VmiRef("other", "desk"), Forbidden)]
)
async def test_dial_of_what_is_not_ours_is_refused(
    lab: Lab, vmi: VmiRef, error: type[VmRedirError]
) -> None:
    async with client_of(lab) as client:
        with pytest.raises(error):
            await ApiDialer(client).dial(vmi, Listener(), at_will)


async def test_vm_without_slots_is_named_with_the_way_to_get_them(lab: Lab) -> None:
    bare = VmiRef("demo", "bare")
    await lab.create_vm(bare, passthrough=False)
    await lab.wait_running(bare)

    async with client_of(lab) as client:
        with pytest.raises(NoUsbSlots, match="VM demo/bare has no USB slots"):
            await ApiDialer(client).dial(bare, Listener(), at_will)


async def test_token_that_the_cluster_does_not_know_asks_for_a_login(lab: Lab) -> None:
    async with client_of(lab, token="wrong") as client:
        with pytest.raises(LoginRequired):
            await ApiDialer(client).dial(DESK, Listener(), at_will)
        with pytest.raises(LoginRequired):
            await KubevirtCluster(client).vmis("demo")


async def test_api_server_that_goes_away_ends_the_link_and_says_so_to_the_watch(
    tmp_path: Path,
) -> None:
    listener = Listener()
    async with echo_lab(tmp_path) as lab, client_of(lab) as client:
        await ApiDialer(client).dial(DESK, listener, at_will)
        assert lab.api is not None
        await lab.api.stop()
        await listener.until(lambda: listener.end)
        with pytest.raises(ClusterError) as caught:
            await client.get("/version")

    assert listener.end is not None
    assert isinstance(listener.end[1], StreamLost)
    assert caught.value.retryable
