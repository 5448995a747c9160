from __future__ import annotations

from dataclasses import replace

import pytest

from kubectl_vmredir.errors import (
    ClusterUnreachable,
    DeviceBusy,
    DeviceLost,
    DeviceReleasing,
    SlotsFull,
    UsbError,
    VmiNotReady,
    VmRedirError,
)
from kubectl_vmredir.model import HandoverKind, RedirectionState, VmiUid
from kubectl_vmredir.protocol.constants import ALL_CAPS, Cap
from kubectl_vmredir.protocol.control import Reset, SetConfiguration
from kubectl_vmredir.service.interface import Handover
from kubectl_vmredir.service.liveness import PING_INTERVAL_S, PONG_TIMEOUT_S
from kubectl_vmredir.service.ports import VmiGone, VmiSeen
from kubectl_vmredir.service.usbhost import (
    CLAIM_TIMEOUT_S,
    HOST_STUCK_S,
    LAST_WORDS_TIMEOUT_S,
    RELEASE_TIMEOUT_S,
)
from tests.support.fake_cluster import running
from tests.support.fake_usb import device
from tests.support.scripted_dialer import ROUND_TRIP_S, Accept, DeadOnArrival, Silence
from tests.support.service_world import FEDORA, RETRY_S, STICK, World
from tests.support.virtual_clock import after, at_rest
from tests.support.wire import wire

S = RedirectionState


# -- plugging in ------------------------------------------------------------------------------


async def test_bound_device_is_claimed_dialed_and_plugged_in(world: World) -> None:
    bound = await world.bind()

    assert await world.states(bound) == [S.CLAIMING, S.DIALING, S.CONNECTED]
    assert world.link.guest is not None
    assert world.link.guest.attached


async def test_bytes_are_counted_in_both_directions(world: World) -> None:
    bound = await world.bind()

    numbers = (await world.status(bound)).numbers
    assert numbers.bytes_up == len(world.link.received)
    assert numbers.bytes_down == 80  # QEMU's hello


async def test_round_trip_is_measured_to_the_hop_that_answers(world: World) -> None:
    bound = await world.bind()
    await after(1)

    numbers = (await world.status(bound)).numbers
    assert numbers.round_trip_ms == ROUND_TRIP_S * 1000
    assert numbers.round_trip_to == "virt-handler"


async def test_device_that_somebody_else_has_blocks(world: World) -> None:
    world.devices.refusal = DeviceBusy(device(), "qemu (pid 7)")

    bound = await world.bind()

    status = await world.status(bound)
    assert status.state is S.BLOCKED
    assert status.trouble is not None
    assert status.trouble.kind == "DeviceBusy"
    assert status.trouble.exit_code == 5
    assert world.dialer.attempts == []


async def test_device_that_goes_away_while_it_is_claimed_is_waited_for(world: World) -> None:
    world.devices.refusal = DeviceLost("it was just pulled out")
    bound = await world.bind()
    assert await world.state(bound) is S.WAITING_DEVICE

    world.devices.refusal = None
    await after(RETRY_S + 0.01)

    assert await world.state(bound) is S.CONNECTED


async def test_device_that_is_still_being_given_back_is_waited_for(world: World) -> None:
    world.devices.refusal = DeviceReleasing(device(), 7)
    bound = await world.bind()
    status = await world.status(bound)
    assert status.state is S.WAITING_DEVICE
    assert "process 7 of ours, which is just giving it back" in status.reason

    world.devices.refusal = None
    await after(RETRY_S + 0.01)

    assert await world.state(bound) is S.CONNECTED


async def test_usb_host_that_cannot_have_the_device_says_why(world: World) -> None:
    world.devices.claims = False
    bound = await world.bind()
    assert await world.state(bound) is S.CLAIMING

    world.devices.hosts[0].say(event="error", message="LIBUSB_ERROR_ACCESS")
    await at_rest()

    assert (await world.status(bound)).reason == "LIBUSB_ERROR_ACCESS"
    assert await world.state(bound) is S.BLOCKED
    assert world.devices.hosts[0].released


async def test_device_that_became_needed_here_is_refused_with_what_to_do(world: World) -> None:
    world.devices.claims = False
    bound = await world.bind()

    finding = {"danger": "never", "message": "sdb is mounted", "hint": "umount /dev/sdb"}
    world.devices.hosts[0].say(event="unsafe", finding=finding)
    await at_rest()

    status = await world.status(bound)
    assert status.state is S.BLOCKED
    assert status.trouble is not None
    assert (status.trouble.kind, status.trouble.exit_code) == ("DeviceUnsafe", 5)
    assert status.trouble.message.endswith("is needed here: sdb is mounted")
    assert status.trouble.hint == "umount /dev/sdb"


async def test_usb_host_that_says_nothing_is_given_up(world: World) -> None:
    world.devices.claims = False
    bound = await world.bind()

    await after(CLAIM_TIMEOUT_S)

    assert await world.state(bound) is S.BLOCKED
    assert (await world.status(bound)).reason == "the usb-host did not answer in 30 s"


@pytest.mark.parametrize("error", [ClusterUnreachable("down"), VmiNotReady("no socket yet")])
async def test_refusal_that_may_pass_is_tried_again_after_a_while(
    world: World, error: VmRedirError
) -> None:
    world.dialer.script += [error, error]

    bound = await world.bind()
    status = await world.status(bound)
    assert status.state is S.HOLDING
    assert status.trouble is not None
    assert status.trouble.message == str(error)

    await after(2 * RETRY_S + 0.01)

    assert await world.state(bound) is S.CONNECTED
    begun = world.dialer.attempts[0][0]
    assert [at - begun for at, _ in world.dialer.attempts] == pytest.approx([0, 0.2, 0.4])


async def test_stream_that_ends_right_after_it_was_accepted_is_dialed_again(world: World) -> None:
    world.dialer.script.append(DeadOnArrival())

    bound = await world.bind()
    await after(RETRY_S + 0.01)

    assert await world.state(bound) is S.CONNECTED
    assert len(world.dialer.links) == 2


async def test_slot_that_stays_silent_is_closed_and_dialed_again(world: World) -> None:
    world.dialer.script.append(Silence())
    bound = await world.bind()
    assert await world.state(bound) is S.DIALING

    await after(14.9)
    assert world.link.open

    await after(0.2)
    assert world.dialer.links[0].closes == 1
    assert world.dialer.links[0].received == b""

    await after(RETRY_S + 0.01)
    assert await world.state(bound) is S.CONNECTED


# -- loss of the link -------------------------------------------------------------------------


async def test_lost_link_is_dialed_again_on_the_same_device_session(world: World) -> None:
    bound = await world.bind()

    world.link.end()
    await at_rest()
    assert await world.state(bound) is S.HOLDING
    await after(RETRY_S + 0.01)

    assert await world.state(bound) is S.CONNECTED
    assert len(world.devices.hosts) == 1
    assert (await world.story(bound))[-1].cause == "plugged in again"
    numbers = (await world.status(bound)).numbers
    assert numbers.last_outage_ms == pytest.approx(RETRY_S * 1000)
    assert numbers.migrations_survived == 0


async def test_full_slots_right_after_a_loss_are_ghosts_and_tried_again(world: World) -> None:
    bound = await world.bind()
    world.dialer.script += [SlotsFull(FEDORA), SlotsFull(FEDORA)]

    world.link.end()
    await after(4 * RETRY_S)

    assert await world.state(bound) is S.CONNECTED
    told = [event.cause for event in await world.story(bound) if "our own last link" in event.cause]
    assert len(told) == 1


async def test_another_qemu_with_other_capabilities_gets_a_new_device_session(
    world: World,
) -> None:
    bound = await world.bind()
    world.dialer.script.append(Accept(ALL_CAPS & ~Cap.BULK_STREAMS))

    world.link.end()
    await after(3 * RETRY_S)

    assert await world.state(bound) is S.CONNECTED
    assert len(world.devices.hosts) == 2
    assert world.devices.hosts[0].released
    causes = [event.cause for event in await world.story(bound)]
    assert any("other usbredir capabilities" in cause for cause in causes)


async def test_vm_that_breaks_the_protocol_gets_a_new_device_session(world: World) -> None:
    bound = await world.bind()

    world.link.deliver(b"\xff" * 64)
    await after(2 * RETRY_S + 0.01)

    assert await world.state(bound) is S.CONNECTED
    assert [link.open for link in world.dialer.links] == [False, True]
    assert [host.released for host in world.devices.hosts] == [True, False]


async def test_usb_host_that_does_not_come_to_rest_is_started_again(world: World) -> None:
    bound = await world.bind()
    assert world.link.guest is not None
    world.devices.hosts[0].deaf = True
    world.link.guest.transfer(2, 1)
    world.link.flush()
    await at_rest()

    world.link.end()
    await after(9)
    assert await world.state(bound) is S.DIALING
    assert len(world.devices.hosts) == 1

    await after(10)
    assert await world.state(bound) is S.CONNECTED
    assert len(world.devices.hosts) == 2


# -- pings ------------------------------------------------------------------------------------


async def test_missed_pong_shows_stalled_and_a_late_one_ends_that(world: World) -> None:
    bound = await world.bind()
    await after(0.1)
    world.link.answers_pings = False

    await after(14.8)
    assert await world.state(bound) is S.CONNECTED

    await after(0.2)
    assert await world.state(bound) is S.STALLED
    assert world.link.open

    world.link.answers_pings = True
    await after(5)
    assert await world.state(bound) is S.CONNECTED
    assert world.link.closes == 0


async def test_bytes_that_come_count_as_a_sign_of_life(world: World) -> None:
    bound = await world.bind()
    assert world.link.guest is not None
    world.link.answers_pings = False

    for number in range(30):
        world.link.guest.transfer(2, number)
        world.link.flush()
        await after(1)

    assert await world.state(bound) is S.CONNECTED
    assert world.link.closes == 0


async def test_link_that_stays_silent_is_given_up_and_dialed_again(world: World) -> None:
    bound = await world.bind()
    await after(0.1)
    silent = world.link
    silent.answers_pings = False

    await after(29.8)
    assert silent.open

    await after(1)
    assert silent.closes == 1
    assert await world.state(bound) is S.CONNECTED


async def test_every_link_is_probed_at_once_after_a_suspend(world: World) -> None:
    bound = await world.bind()
    await after(1.5)
    pings, watches = world.link.pings, world.cluster.watches
    world.link.answers_pings = False

    world.suspend(3600)
    await after(1)
    assert world.link.pings == pings + 1
    assert world.cluster.watches == watches + 1

    await after(3)
    assert world.dialer.links[0].closes == 1
    await after(RETRY_S + 0.01)
    assert await world.state(bound) is S.CONNECTED


# -- the device -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["process ends", "usb-host says so", "device_disconnect"])
async def test_device_that_is_pulled_out_is_taken_from_the_vm_and_waited_for(
    world: World, way: str
) -> None:
    bound = await world.bind()
    assert world.link.guest is not None
    world.devices.unplug(device())
    match way:
        case "process ends":
            world.devices.hosts[0].end()
        case "usb-host says so":
            world.devices.hosts[0].say(event="lost", reason="unplugged")
        case _:
            world.devices.hosts[0].model.disconnect()
            world.devices.hosts[0].flush()
    await after(LAST_WORDS_TIMEOUT_S)

    assert await world.state(bound) is S.WAITING_DEVICE
    assert not world.link.guest.attached
    assert world.link.closes == 1

    world.devices.plug(device(address=9))
    await after(RETRY_S + 0.01)

    assert await world.state(bound) is S.CONNECTED


async def test_usb_host_that_ends_again_and_again_is_not_started_without_a_pause(
    world: World,
) -> None:
    bound = await world.bind()
    world.devices.short_lived = True
    world.devices.hosts[0].end()

    await after(5)

    assert 2 < len(world.devices.hosts) <= 1 + 5 / RETRY_S
    world.devices.short_lived = False
    await after(2 * RETRY_S + 0.01)
    assert await world.state(bound) is S.CONNECTED


async def test_device_of_another_serial_number_is_not_taken_for_it(world: World) -> None:
    bound = await world.bind()
    world.devices.unplug(device())
    world.devices.hosts[0].end()

    world.devices.plug(device("STICK2"))
    await after(5)

    assert await world.state(bound) is S.WAITING_DEVICE


async def test_second_device_that_fits_the_selector_blocks(world: World) -> None:
    bound = await world.bind()
    world.devices.unplug(device())
    world.devices.plug(device(port="1-5"))
    world.devices.plug(device(port="1-6"))

    world.devices.hosts[0].end()
    await at_rest()

    status = await world.status(bound)
    assert status.state is S.BLOCKED
    assert status.trouble is not None
    assert status.trouble.kind == "DeviceAmbiguous"


# -- the VM -----------------------------------------------------------------------------------


async def test_vm_that_is_gone_is_waited_for(world: World) -> None:
    bound = await world.bind()
    world.cluster.tell(VmiGone(running()))
    world.link.end()
    await after(60)
    assert await world.state(bound) is S.HOLDING
    assert (await world.status(bound)).reason == "waiting for VM demo/fedora, which does not exist"

    world.cluster.tell(VmiSeen(replace(running(), uid=VmiUid("new"), phase="Scheduling")))
    await after(60)
    assert (await world.status(bound)).reason == "waiting for VM demo/fedora, which is Scheduling"

    world.cluster.tell(VmiSeen(replace(running(), uid=VmiUid("new"))))
    await after(1)
    assert await world.state(bound) is S.CONNECTED
    assert await world.handovers(bound) == []
    assert len(world.dialer.attempts) == 2


async def test_link_into_a_former_life_of_the_vm_is_closed(world: World) -> None:
    bound = await world.bind()

    world.cluster.tell(VmiSeen(replace(running(), uid=VmiUid("new"))))
    await after(1)

    assert world.dialer.links[0].closes == 1
    assert await world.state(bound) is S.CONNECTED


async def test_vm_that_is_being_deleted_is_not_dialed(world: World) -> None:
    bound = await world.bind()
    world.cluster.tell(VmiSeen(replace(running(), deleting=True)))
    world.link.end()
    await after(60)

    reason = (await world.status(bound)).reason
    assert reason == "waiting for VM demo/fedora, which is being deleted"
    assert len(world.dialer.attempts) == 1


async def test_vm_that_was_restarted_without_slots_blocks(world: World) -> None:
    bound = await world.bind()
    changed = replace(running(), uid=VmiUid("new"), client_passthrough=False, slots=())
    world.cluster.tell(VmiSeen(changed))
    await after(1)

    status = await world.status(bound)
    assert status.state is S.BLOCKED
    assert status.trouble is not None
    assert status.trouble.kind == "NoUsbSlots"


# -- handovers --------------------------------------------------------------------------------


async def test_device_follows_the_vm_and_the_gap_is_told(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()

    migration.go_to("copying")
    await after(0.5)
    assert await world.state(bound) is S.MIGRATING
    assert (await world.status(bound)).reason == "the VM is migrating (copying)"

    migration.go_to("target ready")
    await after(0.05)
    world.link.end()  # the source's QEMU exits
    await after(0.05)
    assert await world.state(bound) is S.HANDING_OVER

    await after(2)  # a slow flip of nodeName
    assert await world.state(bound) is S.HANDING_OVER
    assert len(world.dialer.attempts) == 1
    migration.go_to("node flipped")
    await after(0.001)

    assert await world.state(bound) is S.CONNECTED
    [handover] = await world.handovers(bound)
    assert handover == Handover(HandoverKind.COLD, handover.link_gap_ms, "node1", "node2")
    assert handover.link_gap_ms == pytest.approx(2050)
    status = await world.status(bound)
    assert status.node == "node2"
    assert status.numbers.migrations_survived == 1
    assert status.numbers.last_outage_ms == pytest.approx(2050)


async def test_gap_of_a_fast_flip_is_the_second_in_which_the_gate_is_shut(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("target ready")
    world.link.end()
    await after(0.1)
    migration.go_to("succeeded")
    await after(0.8)
    assert len(world.dialer.attempts) == 1

    await after(0.2)

    assert len(world.dialer.attempts) == 2
    [handover] = await world.handovers(bound)
    assert handover.link_gap_ms == pytest.approx(1000)


async def test_source_link_that_stays_open_is_closed_once_the_vm_has_moved(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("node flipped")
    await after(0.9)
    assert world.link.open
    assert await world.state(bound) is S.MIGRATING

    await after(0.2)

    assert world.dialer.links[0].closes == 1
    assert await world.state(bound) is S.CONNECTED
    [handover] = await world.handovers(bound)
    assert (handover.source_node, handover.target_node) == ("node1", "node2")


async def test_failed_migration_leaves_the_link_as_it_is(world: World) -> None:
    bound = await world.bind()
    migration = world.migration()
    migration.go_to("target detected")
    await after(1)

    migration.fail()
    await after(60)

    assert await world.state(bound) is S.CONNECTED
    assert len(world.dialer.attempts) == 1
    assert world.link.closes == 0
    assert await world.handovers(bound) == []


async def test_twenty_migrations_in_a_row_are_survived(world: World) -> None:
    bound = await world.bind()
    vmi = running()
    for number in range(20):
        migration = world.migration(vmi, uid=f"m{number}")
        migration.go_to("target ready")
        world.link.end()
        await after(0.1)
        migration.go_to("succeeded")
        await after(2)
        vmi = migration.vmi

    handovers = await world.handovers(bound)
    assert len(handovers) == 20
    assert {handover.link_gap_ms for handover in handovers} == {1000.0}
    assert (await world.status(bound)).numbers.migrations_survived == 20
    assert await world.state(bound) is S.CONNECTED
    assert len(world.devices.hosts) == 1


async def test_two_migrations_in_one_outage_are_one_handover_and_both_survived(
    world: World,
) -> None:
    bound = await world.bind()
    there = world.migration()
    there.go_to("target ready")
    world.link.end()
    there.go_to("succeeded")
    back = world.migration(there.vmi, uid="m2")
    back.go_to("target ready")
    await after(0.1)
    back.go_to("succeeded")
    await after(2)

    [handover] = await world.handovers(bound)
    assert (handover.source_node, handover.target_node) == ("node1", "node1")
    assert (await world.status(bound)).numbers.migrations_survived == 2


async def test_migration_that_begins_while_the_guest_enumerates_is_told_as_a_risk(
    world: World,
) -> None:
    bound = await world.bind()
    await after(4)

    world.migration().go_to("copying")
    await after(1)

    risks = [event for event in await world.story(bound) if "plugging it in" in event.cause]
    assert len(risks) == 1


async def test_migration_of_a_guest_that_has_long_had_the_device_is_no_risk(
    world: World,
) -> None:
    bound = await world.bind()
    await after(6)

    world.migration().go_to("copying")
    await after(1)

    assert not [event for event in await world.story(bound) if "plugging it in" in event.cause]


async def test_link_loss_after_a_refused_claim_is_no_handover(world: World) -> None:
    world.devices.refusal = UsbError("no permission")
    bound = await world.bind()
    world.devices.refusal = None

    again = await world.bind(STICK)

    assert again == bound
    assert await world.state(bound) is S.CONNECTED
    assert await world.handovers(bound) == []


async def test_resets_that_the_vm_asks_for_are_counted_over_all_device_sessions(
    world: World,
) -> None:
    bound = await world.bind()
    for _ in range(2):
        guest = world.link.guest
        assert guest is not None
        world.link.deliver(wire((1, SetConfiguration(1)), Reset(), caps=guest.caps))
        world.devices.hosts[-1].end()
        await after(1)

    assert len(world.devices.hosts) == 3
    assert (await world.status(bound)).numbers.resets_forwarded == 2


async def test_usb_host_that_hangs_is_told_and_then_taken_for_lost(world: World) -> None:
    bound = await world.bind()
    host = world.devices.hosts[0]
    guest = world.link.guest
    assert guest is not None
    host.stop_reading()
    packet_ids = iter(range(1, 1000))
    while world.link.reading:
        guest.transfer(3, next(packet_ids), stamps=8000)
        world.link.flush()

    await after(2 * PING_INTERVAL_S + PONG_TIMEOUT_S)
    status = await world.status(bound)
    assert status.state is S.STALLED
    assert status.reason == "the usb-host does not take what the VM sends"
    assert world.link.open
    await after(HOST_STUCK_S)

    causes = [event.cause for event in await world.story(bound)]
    assert any("the usb-host has taken nothing for 30 s" in cause for cause in causes)
    assert not world.dialer.links[0].open
    assert len(world.devices.hosts) == 2
    assert await world.state(bound) is S.CONNECTED


async def test_usb_host_that_hangs_in_a_migration_keeps_its_link_until_that_is_over(
    world: World,
) -> None:
    bound = await world.bind()
    guest = world.link.guest
    assert guest is not None
    world.devices.hosts[0].stop_reading()
    guest.transfer(2, 1)
    world.link.flush()
    migration = world.migration()
    migration.go_to("copying")

    await after(2 * HOST_STUCK_S)
    assert world.link.open
    assert not guest.requests
    assert "waiting for the migration" in (await world.status(bound)).reason

    migration.fail()
    await after(RELEASE_TIMEOUT_S + 1)
    assert len(world.devices.hosts) == 2
    assert await world.state(bound) is S.CONNECTED
