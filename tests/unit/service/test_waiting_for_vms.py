"""A VM that does not exist, or does not run, is waited for, and its slot is had when it is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubectl_vmredir.errors import DeviceBusy, SlotsFull, SlotTaken
from kubectl_vmredir.model import (
    Danger,
    DeviceSelector,
    DeviceUse,
    Finding,
    Identity,
    RedirectionState,
    VmiRef,
    VmiUid,
    VmiView,
)
from kubectl_vmredir.service.interface import TRIAL_S
from kubectl_vmredir.service.ports import VmiGone, VmiSeen
from tests.support.fake_cluster import running
from tests.support.fake_usb import FakeDevices, device
from tests.support.service_world import RETRY_S, World, a_world
from tests.support.virtual_clock import after, at_rest

S = RedirectionState
LATER = VmiRef("demo", "later")


def sticks(count: int) -> FakeDevices:
    return FakeDevices(
        *(device(f"STICK{n}", address=n + 3, port=f"1-{n}") for n in range(1, count + 1))
    )


def stick(number: int) -> DeviceSelector:
    return DeviceSelector.parse(f"1234:5678:STICK{number}")


def reborn(name: str = "fedora", **changes: object) -> VmiView:
    """Return the VM in its next life."""
    return replace(running(name), uid=VmiUid(f"next-{name}"), **changes)  # type: ignore[arg-type]


async def test_vm_that_does_not_exist_is_waited_for_and_its_first_slot_is_had(
    world: World,
) -> None:
    bound = await world.bind(vmi=LATER)
    await after(600)
    status = await world.status(bound)
    assert (status.state, status.slot) == (S.HOLDING, "")
    assert status.reason == "waiting for VM demo/later, which does not exist"
    assert world.devices.hosts == []

    world.cluster.tell(VmiSeen(replace(running("later"), phase="Scheduling")))
    await after(600)
    assert (await world.status(bound)).reason == "waiting for VM demo/later, which is Scheduling"
    assert (await world.status(bound)).slot == ""

    world.cluster.tell(VmiSeen(running("later")))
    await at_rest()
    status = await world.status(bound)
    assert (status.state, status.slot) == (S.CONNECTED, "flash")
    assert [vmi for _, vmi in world.dialer.attempts] == [LATER]


async def test_what_is_waited_for_is_told_in_the_story(world: World) -> None:
    bound = await world.bind(vmi=LATER)

    world.cluster.tell(VmiSeen(replace(running("later"), phase="Scheduling")))
    await at_rest()

    (event,) = await world.story(bound)
    assert event.state is S.HOLDING
    assert event.cause == "waiting for VM demo/later, which does not exist"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"phase": "Scheduling"}, "Scheduling"),
        ({"phase": ""}, "not started yet"),
        ({"phase": "Succeeded"}, "Succeeded"),
        ({"phase": "Failed", "client_passthrough": False}, "Failed"),
        ({"deleting": True}, "being deleted"),
        ({"deleting": True, "client_passthrough": False}, "being deleted"),
    ],
)
async def test_vm_that_does_not_run_is_waited_for(changes: dict[str, object], words: str) -> None:
    async with a_world(replace(running(), **changes)) as world:  # type: ignore[arg-type]
        bound = await world.bind(slot="key")
        assert (await world.status(bound)).reason == f"waiting for VM demo/fedora, which is {words}"

        world.cluster.tell(VmiSeen(reborn()))
        await at_rest()

        status = await world.status(bound)
        assert (status.state, status.slot) == (S.CONNECTED, "key")


async def test_slot_that_the_vm_turns_out_not_to_have_blocks_until_it_has(world: World) -> None:
    bound = await world.bind(vmi=LATER, slot="token")
    assert (await world.status(bound)).slot == "token"

    world.cluster.tell(VmiSeen(running("later")))
    await after(600)
    status = await world.status(bound)
    assert status.trouble is not None
    assert (status.state, status.trouble.kind) == (S.BLOCKED, "SlotNotFound")
    assert status.trouble.hint == "Its slots are: flash, key, usb2, usb3."
    assert world.devices.hosts == []

    world.cluster.tell(VmiSeen(replace(running("later"), slots=("flash", "token"))))
    await at_rest()
    assert await world.state(bound) is S.CONNECTED
    assert [kept.wish.slot_index for kept in world.itself.wishes()] == [1]


async def test_vm_that_turns_out_to_have_no_slots_blocks_until_its_next_life(world: World) -> None:
    bound = await world.bind(vmi=LATER)

    without = replace(running("later"), client_passthrough=False, slots=())
    world.cluster.tell(VmiSeen(without))
    await after(600)
    status = await world.status(bound)
    assert status.trouble is not None
    assert (status.state, status.trouble.kind) == (S.BLOCKED, "NoUsbSlots")
    assert world.devices.hosts == []

    world.cluster.tell(VmiGone(without))
    await at_rest()
    assert await world.state(bound) is S.HOLDING
    world.cluster.tell(VmiSeen(reborn("later")))
    await at_rest()
    assert await world.state(bound) is S.CONNECTED


async def test_wishes_for_a_vm_that_is_not_there_get_slots_of_their_own() -> None:
    async with a_world(devices=sticks(4)) as world:
        first = await world.bind(stick(1), LATER)
        named = await world.bind(stick(2), LATER, "key")
        third = await world.bind(stick(3), LATER)
        fourth = await world.bind(stick(4), LATER)

        world.cluster.tell(VmiSeen(running("later")))
        await after(1)

        slots = [(await world.status(each)).slot for each in (first, named, third, fourth)]
        assert slots == ["flash", "key", "usb2", "usb3"]
        assert {status.state for status in await world.all()} == {S.CONNECTED}


async def test_fifth_wish_for_a_vm_that_is_not_there_is_refused() -> None:
    async with a_world(devices=sticks(5)) as world:
        for number in range(1, 5):
            await world.bind(stick(number), LATER)

        with pytest.raises(SlotsFull):
            await world.bind(stick(5), LATER)


async def test_wish_for_which_no_slot_is_left_is_blocked_until_one_is() -> None:
    async with a_world(devices=sticks(2)) as world:
        first = await world.bind(stick(1), LATER)
        second = await world.bind(stick(2), LATER)

        world.cluster.tell(VmiSeen(replace(running("later"), slots=("flash",))))
        await after(1)

        assert await world.state(first) is S.CONNECTED
        status = await world.status(second)
        assert status.trouble is not None
        assert (status.state, status.trouble.kind) == (S.BLOCKED, "SlotsFull")

        await world.service.unbind(first)
        await after(1)
        status = await world.status(second)
        assert (status.state, status.slot) == (S.CONNECTED, "flash")


async def test_slot_of_a_vm_that_is_not_there_is_for_one_wish() -> None:
    async with a_world(devices=sticks(2)) as world:
        await world.bind(stick(1), LATER, "key")

        with pytest.raises(SlotTaken, match="already holds 1234:5678:STICK1"):
            await world.bind(stick(2), LATER, "key")


async def test_device_that_waits_for_a_vm_is_not_free_for_another_one(world: World) -> None:
    await world.bind(vmi=LATER)

    with pytest.raises(DeviceBusy, match="held by a slot of VM demo/later"):
        await world.bind()


async def test_vm_that_is_deleted_and_created_again_has_the_device_again(world: World) -> None:
    bound = await world.bind(slot="key")

    world.cluster.tell(VmiSeen(replace(running(), deleting=True)))
    world.link.end()
    await after(60)
    world.cluster.tell(VmiGone(running()))
    await after(60)
    assert (await world.status(bound)).reason == "waiting for VM demo/fedora, which does not exist"
    for phase in ("", "Scheduling", "Scheduled", "Running"):
        world.cluster.tell(VmiSeen(reborn(phase=phase)))
        await after(1)

    status = await world.status(bound)
    assert (status.state, status.slot) == (S.CONNECTED, "key")
    assert len(world.devices.hosts) == 1


async def test_only_keyboard_stays_here_until_its_vm_runs(world: World) -> None:
    keyboard = Finding(Danger.ALLOW, "it is the only keyboard")
    world.devices.uses[device()] = DeviceUse(findings=(keyboard,))

    bound = await world.bind(vmi=LATER, allow_keyboard=True)
    await after(10 * TRIAL_S)
    status = await world.status(bound)
    assert (status.state, status.trial_ends) == (S.HOLDING, None)

    world.cluster.tell(VmiSeen(running("later")))
    await at_rest()
    assert (await world.status(bound)).trial_ends is not None


async def test_another_user_does_not_give_the_device_to_a_vm_that_was_waited_for(
    world: World,
) -> None:
    bound = await world.bind(vmi=LATER)
    world.cluster.me = Identity("mallory", "2000")

    world.cluster.tell(VmiSeen(running("later")))
    await after(1)

    status = await world.status(bound)
    assert status.trouble is not None
    assert (status.state, status.trouble.kind) == (S.BLOCKED, "IdentityChanged")
    assert not any(link.open for link in world.dialer.links)


async def test_unbind_does_not_wait_for_the_vm(world: World) -> None:
    bound = await world.bind(vmi=LATER)

    await world.service.unbind(bound)

    assert await world.all() == []


async def test_slot_that_was_had_once_is_kept_by_the_next_process() -> None:
    async with a_world(devices=sticks(2)) as world:
        await world.bind(stick(1), slot="flash")
        await world.bind(stick(2))
        kept = world.itself.wishes()
    assert [each.wish.slot for each in kept] == ["flash", "key"]

    async with a_world(devices=sticks(2)) as later:
        later.itself.restore(kept[1])
        await after(RETRY_S)

        (status,) = await later.all()
        assert (status.state, status.slot) == (S.CONNECTED, "key")


async def test_wish_for_a_vm_that_is_not_there_goes_on_in_the_next_process(world: World) -> None:
    await world.bind(vmi=LATER)
    (kept,) = world.itself.wishes()
    assert (kept.wish.slot, kept.wish.slot_index) == ("", None)

    async with a_world(running("later")) as later:
        later.itself.restore(kept)
        await after(RETRY_S)

        (status,) = await later.all()
        assert (status.state, status.slot) == (S.CONNECTED, "flash")
