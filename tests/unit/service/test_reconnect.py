"""Reconnect closes the link as soon as that harms nobody, and dials anew at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubectl_vmredir.errors import ClusterUnreachable, Forbidden, LoginRequired
from kubectl_vmredir.model import DeviceSelector, Identity, RedirectionState
from kubectl_vmredir.service.ports import VmiSeen
from kubectl_vmredir.service.slot_order import ORDER_PATIENCE_S
from tests.support.fake_cluster import ALICE, running
from tests.support.fake_usb import FakeDevices, device
from tests.support.scripted_dialer import Hold
from tests.support.service_world import RETRY_S, World, a_world
from tests.support.virtual_clock import after, at_rest

S = RedirectionState


async def test_link_is_closed_and_dialed_anew_on_the_same_device_session(world: World) -> None:
    bound = await world.bind()

    await world.service.reconnect(bound)
    await after(RETRY_S)

    assert [link.closes for link in world.dialer.links] == [1, 0]
    assert len(world.devices.hosts) == 1
    assert await world.state(bound) is S.CONNECTED
    causes = [event.cause for event in await world.story(bound)]
    assert causes[-4:] == [
        "reconnecting, as was asked",
        "trying again",
        "dialing the VM",
        "plugged in again",
    ]


async def test_reconnect_does_not_wait_for_the_link_to_close(world: World) -> None:
    bound = await world.bind()
    world.link.close_hangs = True
    begun = world.loop.time()

    await world.service.reconnect(bound)

    assert world.loop.time() == begun
    await after(60)
    assert await world.state(bound) is S.CONNECTED
    assert len(world.dialer.links) == 2


async def test_link_is_not_closed_while_the_vm_migrates(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    await at_rest()

    await world.service.reconnect(bound)
    await after(60)
    status = await world.status(bound)
    assert (status.state, world.link.open) == (S.MIGRATING, True)
    assert "it was asked to reconnect; waiting for the migration" in status.reason

    migration.fail()
    await after(RETRY_S)
    assert [link.closes for link in world.dialer.links] == [1, 0]
    assert await world.state(bound) is S.CONNECTED


async def test_migration_that_ends_the_link_is_reconnect_enough(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    await world.service.reconnect(bound)
    await after(1)

    migration.go_to("target ready")
    world.link.end()
    migration.go_to("succeeded")
    await after(60)

    assert [link.closes for link in world.dialer.links] == [0, 0]
    assert await world.state(bound) is S.CONNECTED


async def test_wait_for_the_next_try_is_over(world: World) -> None:
    world.dialer.script += [ClusterUnreachable("down")] * 2
    bound = await world.bind()
    assert await world.state(bound) is S.HOLDING

    await world.service.reconnect(bound)
    await at_rest()

    assert len(world.dialer.attempts) == 2
    assert world.dialer.attempts[0][0] == world.dialer.attempts[1][0]


async def test_link_that_is_being_dialed_is_left_alone(world: World) -> None:
    hold = Hold()
    world.dialer.script.append(hold)
    bound = await world.bind()
    assert await world.state(bound) is S.DIALING

    await world.service.reconnect(bound)
    hold.go.set()
    await after(60)

    assert await world.state(bound) is S.CONNECTED
    assert len(world.dialer.attempts) == 1
    assert world.link.closes == 0


@pytest.mark.parametrize("error", [Forbidden("no"), LoginRequired("who?")])
async def test_what_is_blocked_gets_another_try_at_once(world: World, error: Forbidden) -> None:
    world.dialer.script.append(error)
    bound = await world.bind()
    assert await world.state(bound) is S.BLOCKED

    await world.service.reconnect(bound)
    await at_rest()

    assert await world.state(bound) is S.CONNECTED


async def test_what_is_still_blocked_is_blocked_again_and_tried_once(world: World) -> None:
    world.dialer.script += [Forbidden("no")] * 5
    bound = await world.bind()

    await world.service.reconnect(bound)
    await after(10)

    assert await world.state(bound) is S.BLOCKED
    assert len(world.dialer.attempts) == 2


async def test_watch_that_waits_for_a_person_is_tried_again_at_once(world: World) -> None:
    bound = await world.bind()
    world.cluster.break_watch(LoginRequired("who?"))
    world.link.end()
    await at_rest()
    watches = world.cluster.watches

    await world.service.reconnect(bound)
    await at_rest()

    assert world.cluster.watches == watches + 1


async def test_reconnect_makes_nobody_else_the_one_who_bound(world: World) -> None:
    bound = await world.bind()
    world.cluster.me = Identity("mallory", "2000")
    world.link.end()
    await after(1)
    assert await world.state(bound) is S.BLOCKED

    await world.service.reconnect(bound)
    await after(1)
    assert await world.state(bound) is S.BLOCKED

    assert [kept.bound_by for kept in world.itself.wishes()] == [ALICE]


async def test_reconnect_goes_on_after_a_bug_and_closes_the_link_that_it_left(
    world: World,
) -> None:
    bound = await world.bind()
    world.link.ping_bug = ZeroDivisionError("a bug")
    await after(60)
    assert await world.state(bound) is S.BLOCKED
    assert world.link.open
    world.link.ping_bug = None

    await world.service.reconnect(bound)
    await after(1)

    assert await world.state(bound) is S.CONNECTED
    assert [link.closes for link in world.dialer.links] == [1, 0]
    assert len(world.devices.hosts) == 1


async def test_reconnect_without_a_device_or_a_vm_goes_on_waiting(world: World) -> None:
    bound = await world.bind()
    world.devices.unplug(device())
    world.devices.hosts[0].end()
    await after(1)

    await world.service.reconnect(bound)
    await after(1)
    assert await world.state(bound) is S.WAITING_DEVICE
    world.cluster.tell(VmiSeen(replace(running(), phase="Failed")))
    world.devices.plug(device())
    await world.service.reconnect(bound)
    await after(1)

    assert (await world.status(bound)).reason == "waiting for VM demo/fedora, which is Failed"


async def test_others_of_the_vm_keep_their_links() -> None:
    other = device("STICK2", address=5, port="1-5")
    async with a_world(devices=FakeDevices(device(), other)) as world:
        bound = await world.bind()
        second = await world.bind(DeviceSelector(serial="STICK2"))

        await world.service.reconnect(bound)
        await after(ORDER_PATIENCE_S)

        assert [link.closes for link in world.dialer.links] == [1, 0, 0]
        assert await world.state(bound) is await world.state(second) is S.CONNECTED
