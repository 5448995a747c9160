from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from kubectl_vmredir.errors import (
    DeviceAmbiguous,
    DeviceBusy,
    DeviceNotFound,
    ExitCode,
    Forbidden,
    NoUsbSlots,
    RedirectionNotFound,
    SlotNotFound,
    SlotsFull,
    SlotTaken,
    VmiNotReady,
    VmRedirError,
)
from kubectl_vmredir.model import (
    DeviceSelector,
    Identity,
    RedirectionId,
    RedirectionState,
    VmiRef,
    VmiView,
    to_json,
)
from kubectl_vmredir.service.interface import (
    NumbersSampled,
    RedirectionChanged,
    RedirectionEnded,
    RedirectionService,
    SlotView,
    Snapshot,
    StoryAdded,
)
from kubectl_vmredir.service.publisher import QUEUE_CHANGES
from tests.support.fake_cluster import ALICE, SLOTS, running
from tests.support.fake_usb import FakeDevices, device
from tests.support.scripted_dialer import Hold
from tests.support.service_world import FEDORA, RETRY_S, World, a_world
from tests.support.virtual_clock import after, at_rest

S = RedirectionState

SCHEDULING = replace(running(), phase="Scheduling")


def many_sticks(count: int) -> FakeDevices:
    return FakeDevices(
        *(
            device(f"STICK{number}", address=number + 3, port=f"1-{number}")
            for number in range(1, count + 1)
        )
    )


def stick(number: int) -> DeviceSelector:
    return DeviceSelector.parse(f"1234:5678:STICK{number}")


async def test_service_is_what_a_user_interface_may_know(world: World) -> None:
    service: RedirectionService = world.service

    assert await service.snapshot() == Snapshot(())


# -- checks at bind ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "error", "exit_code"),
    [
        ("ffff:ffff", DeviceNotFound, ExitCode.DEVICE),
        ("1234:5678:STICK9", DeviceNotFound, ExitCode.DEVICE),
        ("1234:5678", DeviceAmbiguous, ExitCode.DEVICE),
    ],
)
async def test_device_that_is_not_exactly_one_is_refused(
    selector: str, error: type[VmRedirError], exit_code: ExitCode
) -> None:
    async with a_world(devices=many_sticks(2)) as world:
        with pytest.raises(error) as caught:
            await world.bind(DeviceSelector.parse(selector))

        assert caught.value.exit_code is exit_code
        assert world.devices.hosts == []


async def test_devices_with_the_same_serial_number_are_named_by_their_ports() -> None:
    twins = FakeDevices(device(), device(address=5, port="1-5"))
    async with a_world(devices=twins) as world:
        with pytest.raises(DeviceAmbiguous) as caught:
            await world.bind()

        assert caught.value.hint == "Name one of them:\n  port:1-4\n  port:1-5"


@pytest.mark.parametrize("selector", ["1-5", "port:1-5"])
async def test_of_two_devices_with_the_same_serial_number_the_one_that_is_meant_is_kept(
    selector: str,
) -> None:
    meant = device(address=5, port="1-5")
    async with a_world(devices=FakeDevices(device(), meant)) as world:
        bound = await world.bind(DeviceSelector.parse(selector))
        assert await world.state(bound) is S.CONNECTED

        world.devices.unplug(meant)
        world.devices.hosts[0].end()
        await after(1)
        assert await world.state(bound) is S.WAITING_DEVICE
        world.devices.plug(replace(meant, address=9))
        await after(1)

        assert await world.state(bound) is S.CONNECTED


@pytest.mark.parametrize(
    ("vmi", "slot", "error", "exit_code"),
    [
        (replace(running(), client_passthrough=False), None, NoUsbSlots, ExitCode.CLUSTER),
        (replace(running(), architecture="s390x"), None, NoUsbSlots, ExitCode.CLUSTER),
        (replace(SCHEDULING, client_passthrough=False), None, NoUsbSlots, ExitCode.CLUSTER),
        (SCHEDULING, "flsh", SlotNotFound, ExitCode.USAGE),
        (running(), "flsh", SlotNotFound, ExitCode.USAGE),
    ],
)
async def test_vm_or_slot_that_cannot_take_the_device_is_refused(
    vmi: VmiView, slot: str | None, error: type[VmRedirError], exit_code: ExitCode
) -> None:
    async with a_world(vmi) as world:
        with pytest.raises(error) as caught:
            await world.bind(slot=slot)

        assert caught.value.exit_code is exit_code
        assert world.devices.hosts == []


async def test_device_that_is_bound_already_is_refused() -> None:
    async with a_world(running(), running("win11")) as world:
        await world.bind(slot="key")

        with pytest.raises(DeviceBusy, match=r"held by slot 'key' of VM demo/fedora") as caught:
            await world.bind(vmi=VmiRef("demo", "win11"))

        assert caught.value.exit_code is ExitCode.TAKEN


async def test_slot_that_holds_another_device_is_refused() -> None:
    async with a_world(devices=many_sticks(2)) as world:
        await world.bind(stick(1), slot="key")

        with pytest.raises(SlotTaken, match="already holds 1234:5678:STICK1") as caught:
            await world.bind(stick(2), slot="key")

        assert caught.value.exit_code is ExitCode.TAKEN


async def test_fifth_device_of_a_vm_is_refused() -> None:
    async with a_world(devices=many_sticks(5)) as world:
        for number in range(1, 5):
            await world.bind(stick(number))

        with pytest.raises(SlotsFull):
            await world.bind(stick(5))


async def test_identity_that_cannot_be_had_is_an_error_of_bind(world: World) -> None:
    world.cluster.me = Forbidden("no reviews for you")

    with pytest.raises(Forbidden, match="no reviews"):
        await world.bind()


async def test_first_free_slot_is_taken_where_none_is_named() -> None:
    async with a_world(devices=many_sticks(3)) as world:
        await world.bind(stick(1), slot="flash")

        second = await world.bind(stick(2))
        third = await world.bind(stick(3))

        assert [(await world.status(bound)).slot for bound in (second, third)] == ["key", "usb2"]


async def test_slot_of_a_redirection_that_ended_is_free_again(world: World) -> None:
    bound = await world.bind(slot="flash")
    await world.service.unbind(bound)

    again = await world.bind(slot="flash")

    assert again != bound
    assert await world.state(again) is S.CONNECTED


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("1234:5678", "1234:5678:STICK1"),
        ("1-4", "1234:5678:STICK1"),
        ("1234:5678:STICK1", "1234:5678:STICK1"),
        ("port:1-4", "port:1-4"),
    ],
)
async def test_selector_is_kept_in_a_form_that_outlasts_a_replug(
    world: World, given: str, kept: str
) -> None:
    bound = await world.bind(DeviceSelector.parse(given))

    assert (await world.status(bound)).device == kept
    assert (await world.status(bound)).description == "ACME Stick"


async def test_device_of_another_virtual_machine_has_its_own_watch() -> None:
    async with a_world(running(), running("win11"), devices=many_sticks(2)) as world:
        first = await world.bind(stick(1))
        second = await world.bind(stick(2), VmiRef("demo", "win11"))

        assert world.cluster.watches == 2
        await world.service.unbind(first)
        world.migration(running("win11")).go_to("copying")
        await at_rest()
        assert await world.state(second) is S.MIGRATING


# -- the rest of the commands -----------------------------------------------------------------


async def test_devices_are_those_of_the_source(world: World) -> None:
    assert await world.service.devices() == (device(),)


async def test_slots_show_what_we_hold() -> None:
    async with a_world(devices=many_sticks(1)) as world:
        bound = await world.bind(stick(1), slot="key")

        [found] = await world.service.vmis("demo")

        assert found.vmi.ref == FEDORA
        assert found.slots == (
            SlotView("flash"),
            SlotView("key", bound, "1234:5678:STICK1"),
            SlotView("usb2"),
            SlotView("usb3"),
        )
        assert [slot.name for slot in found.slots] == list(SLOTS)


async def test_migrate_asks_the_cluster_and_names_the_migration(world: World) -> None:
    assert await world.service.migrate(FEDORA) == "kubevirt-migrate-vm-x"


async def test_unbind_of_what_is_not_there_is_an_error(world: World) -> None:
    with pytest.raises(RedirectionNotFound, match="no redirection 'r7'"):
        await world.service.unbind(RedirectionId("r7"))


# -- redirections of one VM -------------------------------------------------------------------


async def test_redirections_of_a_vm_are_dialed_in_slot_order_one_after_the_other() -> None:
    async with a_world(devices=many_sticks(3)) as world:
        # Bound in another order than that of the slots.
        await world.bind(stick(1), slot="usb2")
        await world.bind(stick(2), slot="flash")
        await world.bind(stick(3), slot="key")
        holds = [Hold(), Hold(), Hold()]
        world.dialer.script += holds
        migration = world.migration()
        migration.go_to("target ready")
        for link in world.dialer.links:
            link.end()
        await after(0.1)
        migration.go_to("succeeded")
        await after(1)

        dialing = []
        for hold in holds:
            await at_rest()
            dialing += [status.slot for status in await world.all() if "dialing" in status.reason]
            hold.go.set()
        await at_rest()

        assert dialing == ["flash", "key", "usb2"]
        assert {status.state for status in await world.all()} == {S.CONNECTED}


async def test_lower_slot_whose_link_still_leads_to_the_source_goes_first() -> None:
    async with a_world(devices=many_sticks(2)) as world:
        await world.bind(stick(1))
        await world.bind(stick(2))
        hold = Hold()
        world.dialer.script.append(hold)
        migration = world.migration()
        migration.go_to("target ready")
        world.dialer.links[1].end()  # the first one hangs on
        migration.go_to("succeeded")
        await after(1.1)

        assert [link.closes for link in world.dialer.links] == [1, 0]
        dialing = [status.slot for status in await world.all() if "dialing" in status.reason]
        assert dialing == ["flash"]
        hold.go.set()
        await at_rest()
        assert {status.state for status in await world.all()} == {S.CONNECTED}


async def test_lower_slot_that_cannot_dial_is_not_waited_for_long() -> None:
    async with a_world(devices=many_sticks(2)) as world:
        first = await world.bind(stick(1))
        second = await world.bind(stick(2))
        refusals = [VmiNotReady("no socket") for _ in range(1000)]
        world.dialer.script += refusals
        for link in world.dialer.links:
            link.end()
        await after(4.9)
        assert (await world.status(second)).reason == "waiting for the slots before this one"

        await after(0.3)
        assert await world.state(first) is S.HOLDING
        assert (await world.status(second)).reason == "trying again"


async def test_redirections_that_have_waited_long_still_dial_one_after_the_other() -> None:
    async with a_world(devices=many_sticks(3)) as world:
        for number in (1, 2, 3):
            await world.bind(stick(number))
        world.cluster.trouble = VmiNotReady("not now")
        for link in world.dialer.links:
            link.end()
        await after(10)
        world.cluster.trouble = None
        await after(1)

        assert {status.state for status in await world.all()} == {S.CONNECTED}


async def test_slot_whose_device_is_unplugged_is_not_waited_for() -> None:
    async with a_world(devices=many_sticks(2)) as world:
        first = await world.bind(stick(1))
        second = await world.bind(stick(2))
        world.devices.unplug(device("STICK1", address=4, port="1-1"))
        world.devices.hosts[0].end()
        world.dialer.links[1].end()

        await after(RETRY_S + 0.01)

        assert await world.state(first) is S.WAITING_DEVICE
        assert await world.state(second) is S.CONNECTED


# -- the same user only -----------------------------------------------------------------------


async def test_another_user_does_not_keep_the_device_in_the_vm(world: World) -> None:
    bound = await world.bind()
    world.cluster.me = Identity("mallory", "2000")

    world.link.end()
    await after(RETRY_S + 0.01)

    status = await world.status(bound)
    assert status.state is S.BLOCKED
    assert status.trouble is not None
    assert status.trouble.kind == "IdentityChanged"
    assert status.trouble.exit_code == ExitCode.TAKEN
    assert "'mallory', the device was bound by 'alice'" in status.reason
    assert not any(link.open for link in world.dialer.links)
    assert not world.devices.hosts[0].released


async def test_same_name_with_another_uid_is_another_user(world: World) -> None:
    bound = await world.bind()
    world.cluster.me = Identity("alice", "2000")

    world.link.end()
    await after(RETRY_S + 0.01)

    assert await world.state(bound) is S.BLOCKED


async def test_device_comes_back_when_its_user_does(world: World) -> None:
    bound = await world.bind()
    world.cluster.me = Identity("mallory", "2000")
    world.link.end()
    await after(1)

    world.cluster.me = ALICE
    world.suspend(60)
    await after(2)

    assert await world.state(bound) is S.CONNECTED


async def test_new_bind_makes_the_new_user_the_one_who_bound(world: World) -> None:
    bound = await world.bind()
    world.cluster.me = Identity("bob", "3000")
    world.link.end()
    await after(1)

    assert await world.bind() == bound
    await after(1)

    assert await world.state(bound) is S.CONNECTED


async def test_identity_that_cannot_be_had_for_a_moment_is_no_other_one(world: World) -> None:
    bound = await world.bind()
    world.cluster.me = Forbidden("not now")

    world.link.end()
    await after(1)

    assert await world.state(bound) is S.CONNECTED


async def test_names_of_server_and_kubeconfig_are_not_compared(world: World) -> None:
    bound = await world.bind()
    world.cluster.me = Identity("user-in-kubeconfig", reviewed=False)

    world.link.end()
    await after(1)

    assert await world.state(bound) is S.CONNECTED


# -- subscribers ------------------------------------------------------------------------------


async def test_subscriber_hears_a_snapshot_and_then_each_change(world: World) -> None:
    async with world.service.subscribe() as changes:
        assert await anext(changes) == Snapshot(())
        bound = await world.bind()
        await world.service.unbind(bound)

        heard = []
        while not isinstance(change := await anext(changes), RedirectionEnded):
            heard.append(change)

    states = [change.event.state for change in heard if isinstance(change, StoryAdded)]
    # The second time it is noted what a migration does to a disk.
    assert states == [S.CLAIMING, S.CLAIMING, S.DIALING, S.CONNECTED, S.STOPPED]
    shown = [change.status.state for change in heard if isinstance(change, RedirectionChanged)]
    assert shown[-1] is S.STOPPED
    assert change == RedirectionEnded(bound)
    assert not any(isinstance(change, NumbersSampled) for change in heard)


async def test_subscriber_that_is_too_slow_gets_a_new_snapshot_instead(world: World) -> None:
    async with world.service.subscribe() as changes:
        await anext(changes)
        for _ in range(QUEUE_CHANGES // 5):
            await world.service.unbind(await world.bind())
        bound = await world.bind()

        resync = await anext(changes)

        assert isinstance(resync, Snapshot)
        assert [view.status.id for view in resync.redirections] == [bound]
        await world.service.unbind(bound)
        assert isinstance(await anext(changes), RedirectionChanged)


async def test_subscriber_who_does_not_listen_holds_nobody_up(world: World) -> None:
    async with world.service.subscribe(numbers=True):
        bound = await world.bind()
        await after(60)

        assert await world.state(bound) is S.CONNECTED


async def test_numbers_are_sampled_ten_times_a_second_at_most_and_when_they_move(
    world: World,
) -> None:
    bound = await world.bind()
    guest = world.link.guest
    assert guest is not None
    await after(1)
    async with world.service.subscribe(numbers=True) as changes:
        await anext(changes)
        await after(0.5)
        for number in range(10):
            guest.transfer(2, number)
            world.link.flush()
            await after(0.05)

        samples: list[NumbersSampled] = []
        begun = world.loop.time()
        async with asyncio.timeout(0.4):
            while len(samples) < 5:
                change = await anext(changes)
                assert isinstance(change, NumbersSampled)
                samples.append(change)

    assert world.loop.time() - begun <= 0.2
    assert {sample.id for sample in samples} == {bound}
    downs = [sample.numbers.bytes_down for sample in samples]
    assert downs == sorted(set(downs))


async def test_numbers_are_sampled_for_those_only_who_ask(world: World) -> None:
    async with world.service.subscribe() as plain, world.service.subscribe(numbers=True):
        await anext(plain)
        await world.bind()
        await after(2)
        await world.service.unbind(RedirectionId("r1"))

        heard = []
        while not isinstance(change := await anext(plain), RedirectionEnded):
            heard.append(change)

    assert not any(isinstance(change, NumbersSampled) for change in heard)


async def test_stream_of_changes_ends_with_the_service() -> None:
    async with a_world() as world:
        subscription = world.service.subscribe()
        changes = await subscription.__aenter__()
        await anext(changes)

    async with asyncio.timeout(1):
        rest = [change async for change in changes]
    await subscription.__aexit__(None, None, None)

    assert rest


async def test_subscription_may_be_left_while_somebody_still_listens(world: World) -> None:
    async with world.service.subscribe() as changes:
        await anext(changes)

        async def listen() -> None:
            await anext(changes)

        listening = world.background.create_task(listen(), name="listen")
        await at_rest()

    assert not listening.done()
    listening.cancel()


async def test_everything_told_can_be_written_as_json(world: World) -> None:
    async with world.service.subscribe(numbers=True) as changes:
        await anext(changes)
        await world.bind()
        await after(1)
        world.link.end()
        await after(1)

        for _ in range(8):
            json.dumps(to_json(await anext(changes)))
        [view] = (await world.service.snapshot()).redirections

    told = to_json(view)
    assert isinstance(told, dict)
    assert isinstance(told["status"], dict)
    assert told["status"]["state"] == "connected"
    assert told["status"]["vmi"] == {"namespace": "demo", "name": "fedora"}
    assert told["status"]["handover"] == "cold"
    assert "only after the VM runs there" in str(told["status"]["handover_doubt"])


async def test_story_keeps_the_latest_events_only(world: World) -> None:
    bound = await world.bind()
    for _ in range(60):
        world.link.end()
        await after(RETRY_S + 0.01)

    story = await world.story(bound)
    assert len(story) == 100
    assert story[-1].state is S.CONNECTED
    assert [event.time for event in story] == sorted(event.time for event in story)
