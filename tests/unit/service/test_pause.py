"""Pause gives the device back and keeps the wish; resume undoes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubectl_vmredir.errors import (
    DeviceBusy,
    Forbidden,
    RedirectionNotFound,
    SlotTaken,
)
from kubectl_vmredir.model import (
    Danger,
    DeviceSelector,
    DeviceUse,
    Finding,
    Identity,
    RedirectionId,
    RedirectionState,
    VmiRef,
    VmiUid,
)
from kubectl_vmredir.service.interface import TRIAL_S
from kubectl_vmredir.service.ports import VmiGone, VmiSeen
from kubectl_vmredir.service.usbhost import RELEASE_TIMEOUT_S
from tests.support.fake_cluster import running
from tests.support.fake_usb import FakeDevices, device
from tests.support.service_world import RETRY_S, World, a_world
from tests.support.virtual_clock import after, at_rest

S = RedirectionState
NOBODY = RedirectionId("r7")
LATER = VmiRef("demo", "later")


# -- pausing ----------------------------------------------------------------------------------


async def test_paused_device_is_given_back_and_stays_wanted(world: World) -> None:
    bound = await world.bind(slot="key")
    guest = world.link.guest

    await world.service.pause(bound)

    status = await world.status(bound)
    assert (status.state, status.slot) == (S.PAUSED, "key")
    assert status.reason == "this machine has the device"
    assert not world.link.open
    assert world.devices.hosts[0].released
    assert guest is not None
    await after(600)
    assert await world.state(bound) is S.PAUSED
    assert len(world.devices.hosts) == len(world.dialer.links) == 1


async def test_pause_returns_when_the_usb_host_has_ended(world: World) -> None:
    bound = await world.bind()
    world.devices.hosts[0].stubborn = True
    begun = world.loop.time()

    await world.service.pause(bound)

    assert world.loop.time() - begun == RELEASE_TIMEOUT_S


async def test_slot_of_what_is_paused_stays_taken() -> None:
    other = device("STICK2", address=5, port="1-5")
    async with a_world(devices=FakeDevices(device(), other)) as world:
        bound = await world.bind(slot="key")
        await world.service.pause(bound)

        with pytest.raises(SlotTaken):
            await world.bind(DeviceSelector(serial="STICK2"), slot="key")
        with pytest.raises(DeviceBusy, match="slot 'key' of VM demo/fedora, and paused") as busy:
            await world.bind()
        assert busy.value.hint == f"Go on with:\n  kubectl vmredir resume {bound}"


async def test_what_is_paused_stays_so_when_it_is_paused_again_or_reconnected(
    world: World,
) -> None:
    bound = await world.bind()
    await world.service.pause(bound)
    told = await world.story(bound)

    await world.service.pause(bound)
    await world.service.reconnect(bound)
    await after(60)

    assert await world.state(bound) is S.PAUSED
    assert await world.story(bound) == told


async def test_what_is_paused_asks_the_cluster_for_nothing(world: World) -> None:
    bound = await world.bind()
    assert world.cluster.open_watches == 1

    await world.service.pause(bound)
    await at_rest()

    assert world.cluster.open_watches == 0


async def test_device_that_comes_and_goes_is_not_taken_while_paused(world: World) -> None:
    bound = await world.bind()
    await world.service.pause(bound)

    world.devices.unplug(device())
    await after(1)
    world.devices.plug(device(address=9))
    await after(1)

    assert await world.state(bound) is S.PAUSED
    assert len(world.devices.hosts) == 1


async def test_pause_of_a_device_that_is_unplugged(world: World) -> None:
    bound = await world.bind()
    world.devices.unplug(device())
    world.devices.hosts[0].end()
    await after(1)
    assert await world.state(bound) is S.WAITING_DEVICE

    await world.service.pause(bound)
    world.devices.plug(device(address=9))
    await after(60)
    assert await world.state(bound) is S.PAUSED

    await world.service.resume(bound)
    await after(1)
    assert await world.state(bound) is S.CONNECTED


async def test_pause_while_the_vm_migrates_waits_for_the_gate(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    await at_rest()

    pausing = world.background.create_task(world.service.pause(bound), name="pause")
    await after(60)
    status = await world.status(bound)
    assert (status.state, world.link.open) == (S.MIGRATING, True)
    assert status.reason.startswith("pause: waiting for the migration of VM demo/fedora")
    assert [kept.paused for kept in world.itself.wishes()] == [True]

    migration.fail()
    await at_rest()
    assert pausing.done()
    assert await world.state(bound) is S.PAUSED
    assert world.devices.hosts[0].released


async def test_pause_between_two_links_has_nothing_to_wait_for(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("target ready")
    world.link.end()
    await at_rest()
    assert await world.state(bound) is S.HANDING_OVER

    await world.service.pause(bound)
    assert await world.state(bound) is S.PAUSED
    assert world.devices.hosts[0].released
    migration.go_to("succeeded")
    await after(600)

    await world.service.resume(bound)
    await after(1)
    assert await world.state(bound) is S.CONNECTED
    assert await world.handovers(bound) == []
    assert (await world.status(bound)).numbers.last_outage_ms is None


async def test_pause_goes_on_if_nobody_waits_for_it(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    pausing = world.background.create_task(world.service.pause(bound), name="pause")
    await at_rest()

    pausing.cancel()
    await after(1)
    assert world.link.open
    migration.fail()
    await at_rest()

    assert await world.state(bound) is S.PAUSED


async def test_pause_that_waits_is_undone_by_resume(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    pausing = world.background.create_task(world.service.pause(bound), name="pause")
    await after(1)

    await world.service.resume(bound)
    await at_rest()
    assert pausing.done()
    assert await world.state(bound) is S.MIGRATING
    migration.fail()
    await after(60)

    assert await world.state(bound) is S.CONNECTED
    assert world.link.closes == 0
    assert len(world.devices.hosts) == 1


async def test_resume_while_the_device_is_being_given_back_takes_it_again(world: World) -> None:
    bound = await world.bind()
    world.devices.hosts[0].stubborn = True
    pausing = world.background.create_task(world.service.pause(bound), name="pause")
    await after(RELEASE_TIMEOUT_S / 2)
    assert not pausing.done()

    await world.service.resume(bound)
    await after(RELEASE_TIMEOUT_S)

    assert await world.state(bound) is S.CONNECTED
    assert len(world.devices.hosts) == 2


async def test_pause_that_waits_is_ended_by_unbind(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("copying")
    pausing = world.background.create_task(world.service.pause(bound), name="pause")
    await after(1)

    unbinding = world.background.create_task(world.service.unbind(bound), name="unbind")
    await after(1)
    assert pausing.done()
    assert world.link.open
    with pytest.raises(RedirectionNotFound):
        await world.service.resume(bound)
    migration.fail()
    await at_rest()

    assert unbinding.done()
    assert await world.all() == []
    assert world.devices.hosts[0].released


async def test_pause_of_what_is_blocked_gives_the_device_back(world: World) -> None:
    bound = await world.bind()
    world.dialer.script.append(Forbidden("no more"))
    world.link.end()
    await after(1)
    assert await world.state(bound) is S.BLOCKED

    await world.service.pause(bound)

    status = await world.status(bound)
    assert (status.state, status.trouble) == (S.PAUSED, None)
    assert world.devices.hosts[0].released
    await world.service.resume(bound)
    await after(1)
    assert await world.state(bound) is S.CONNECTED


async def test_pause_of_what_waits_for_its_vm(world: World) -> None:
    bound = await world.bind(vmi=LATER)

    await world.service.pause(bound)
    world.cluster.tell(VmiSeen(running("later")))
    await after(60)
    assert await world.state(bound) is S.PAUSED
    assert world.devices.hosts == []

    await world.service.resume(bound)
    await after(1)
    assert await world.state(bound) is S.CONNECTED


async def test_pause_of_what_had_a_bug_gives_the_device_back(world: World) -> None:
    world.dialer.bug = ZeroDivisionError("a bug")
    bound = await world.bind()
    assert await world.state(bound) is S.BLOCKED
    world.dialer.bug = None

    await world.service.pause(bound)
    assert await world.state(bound) is S.PAUSED
    assert world.devices.hosts[0].released

    await world.service.resume(bound)
    await after(1)
    assert await world.state(bound) is S.CONNECTED


async def test_bug_in_a_pause_blocks_and_the_next_bind_goes_on(world: World) -> None:
    bound = await world.bind()
    world.link.close_bug = ZeroDivisionError("a bug")

    await world.service.pause(bound)
    status = await world.status(bound)
    assert (status.state, world.link.open) == (S.BLOCKED, True)
    assert "ZeroDivisionError('a bug')" in status.reason
    world.link.close_bug = None

    assert await world.bind() == bound
    assert await world.state(bound) is S.CONNECTED
    assert [kept.paused for kept in world.itself.wishes()] == [False]


async def test_end_of_the_service_does_not_wait_for_what_is_paused(world: World) -> None:
    bound = await world.bind()
    await world.service.pause(bound)
    world.migration().go_to("copying")
    begun = world.loop.time()

    assert await world.service.shutdown() == ()

    assert world.loop.time() == begun


@pytest.mark.parametrize("command", ["pause", "resume", "reconnect"])
async def test_what_is_not_there_is_an_error(world: World, command: str) -> None:
    with pytest.raises(RedirectionNotFound, match="no redirection 'r7'"):
        await getattr(world.service, command)(NOBODY)


# -- resuming ---------------------------------------------------------------------------------


async def test_resumed_device_is_in_the_vm_again_and_that_is_no_handover(world: World) -> None:
    bound = await world.bind()
    await world.service.pause(bound)
    migration = world.migration()
    migration.go_to("succeeded")
    await after(600)

    await world.service.resume(bound)
    await after(2)

    there = [S.CLAIMING, S.DIALING, S.CONNECTED]
    assert await world.states(bound) == [*there, S.PAUSED, *there]
    assert len(world.devices.hosts) == 2
    assert await world.handovers(bound) == []
    numbers = (await world.status(bound)).numbers
    assert (numbers.last_outage_ms, numbers.migrations_survived) == (None, 0)


async def test_numbers_go_on_after_a_pause(world: World) -> None:
    bound = await world.bind()
    before = (await world.status(bound)).numbers.bytes_up

    await world.service.pause(bound)
    assert (await world.status(bound)).numbers.bytes_up == before
    await world.service.resume(bound)
    await after(1)

    assert (await world.status(bound)).numbers.bytes_up == 2 * before


async def test_resume_of_what_is_not_paused_changes_nothing(world: World) -> None:
    bound = await world.bind()
    told = await world.story(bound)

    await world.service.resume(bound)
    await after(60)

    assert await world.story(bound) == told
    assert world.link.closes == 0


async def test_resume_without_a_vm_waits_for_it(world: World) -> None:
    bound = await world.bind()
    await world.service.pause(bound)
    world.cluster.tell(VmiGone(running()))

    await world.service.resume(bound)
    await after(1)
    status = await world.status(bound)
    assert status.state is S.HOLDING
    assert status.reason == "waiting for VM demo/fedora, which does not exist"

    world.cluster.tell(VmiSeen(replace(running(), uid=VmiUid("new"))))
    await after(1)
    assert await world.state(bound) is S.CONNECTED


async def test_resume_without_a_device_waits_for_it(world: World) -> None:
    bound = await world.bind()
    await world.service.pause(bound)
    world.devices.unplug(device())

    await world.service.resume(bound)
    await after(1)
    assert await world.state(bound) is S.WAITING_DEVICE

    world.devices.plug(device(address=9))
    await after(1)
    assert await world.state(bound) is S.CONNECTED


async def test_another_user_does_not_give_the_device_to_the_vm_after_a_pause(
    world: World,
) -> None:
    bound = await world.bind(vmi=LATER)
    await world.service.pause(bound)
    world.cluster.tell(VmiSeen(running("later")))
    world.cluster.me = Identity("mallory", "2000")

    await world.service.resume(bound)
    await after(1)

    status = await world.status(bound)
    assert status.trouble is not None
    assert (status.state, status.trouble.kind) == (S.BLOCKED, "IdentityChanged")


async def test_device_that_became_needed_here_while_it_was_paused_is_not_taken(
    world: World,
) -> None:
    bound = await world.bind()
    await world.service.pause(bound)
    mounted = Finding(Danger.FORCE, "/mnt is mounted from it")
    world.devices.uses[device()] = DeviceUse(findings=(mounted,))

    await world.service.resume(bound)
    await after(1)

    status = await world.status(bound)
    assert status.trouble is not None
    assert (status.state, status.trouble.kind) == (S.BLOCKED, "DeviceUnsafe")


# -- the only keyboard ------------------------------------------------------------------------


async def a_keyboard_on_trial(world: World) -> RedirectionId:
    keyboard = Finding(Danger.ALLOW, "it is the only keyboard")
    world.devices.uses[device()] = DeviceUse(findings=(keyboard,))
    return await world.bind(allow_keyboard=True)


async def test_trial_ends_with_a_pause_and_the_next_one_begins_with_resume(world: World) -> None:
    bound = await a_keyboard_on_trial(world)
    await after(TRIAL_S / 2)

    await world.service.pause(bound)
    assert (await world.status(bound)).trial_ends is None
    await after(10 * TRIAL_S)
    assert await world.state(bound) is S.PAUSED

    await world.service.resume(bound)
    await after(1)
    assert (await world.status(bound)).trial_ends is not None
    await after(TRIAL_S)
    assert await world.all() == []


async def test_trial_that_ends_while_a_pause_waits_ends_no_more_than_the_pause_does(
    world: World,
) -> None:
    bound = await a_keyboard_on_trial(world)
    migration = world.migration()
    migration.go_to("copying")
    world.background.create_task(world.service.pause(bound), name="pause")
    await after(2 * TRIAL_S)
    assert world.link.open

    migration.fail()
    await after(TRIAL_S)

    assert await world.state(bound) is S.PAUSED


async def test_trial_that_ended_while_a_pause_waited_is_over_if_that_is_undone(
    world: World,
) -> None:
    bound = await a_keyboard_on_trial(world)
    migration = world.migration()
    migration.go_to("copying")
    world.background.create_task(world.service.pause(bound), name="pause")
    await after(2 * TRIAL_S)

    await world.service.resume(bound)
    migration.fail()
    await after(1)

    assert await world.all() == []
    assert world.devices.hosts[0].released


async def test_keyboard_that_was_confirmed_is_on_trial_no_more_after_a_pause(
    world: World,
) -> None:
    bound = await a_keyboard_on_trial(world)
    await world.service.confirm(bound)

    await world.service.pause(bound)
    await world.service.resume(bound)
    await after(2 * TRIAL_S)

    assert (await world.status(bound)).trial_ends is None
    assert await world.state(bound) is S.CONNECTED


# -- the next process -------------------------------------------------------------------------


async def test_what_is_paused_is_paused_in_the_next_process(world: World) -> None:
    await world.service.pause(await world.bind())
    (kept,) = world.itself.wishes()

    async with a_world() as later:
        later.itself.restore(kept)
        await after(60)
        (status,) = await later.all()
        assert status.state is S.PAUSED
        assert later.devices.hosts == []
        assert later.cluster.open_watches == 0

        await later.service.resume(status.id)
        await after(RETRY_S)
        assert await later.state(status.id) is S.CONNECTED


async def test_keyboard_that_was_confirmed_is_on_trial_no_more_in_the_next_process(
    world: World,
) -> None:
    bound = await a_keyboard_on_trial(world)
    await world.service.confirm(bound)
    (kept,) = world.itself.wishes()

    async with a_world() as later:
        later.devices.uses = world.devices.uses
        later.itself.restore(kept)
        await after(2 * TRIAL_S)

        assert await later.state(bound) is S.CONNECTED
        assert (await later.status(bound)).trial_ends is None
