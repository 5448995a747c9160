"""What goes through a usb-host process: libusbredirhost and libusb with an emulated device."""

from __future__ import annotations

import asyncio
import os

import pytest

from kubectl_vmredir.protocol.constants import Status
from kubectl_vmredir.protocol.control import (
    BulkReceivingStatus,
    CancelDataPacket,
    ConfigurationStatus,
    InterruptReceivingStatus,
    Reset,
    SetConfiguration,
    StartBulkReceiving,
    StartInterruptReceiving,
    StopInterruptReceiving,
)
from kubectl_vmredir.protocol.data import (
    BufferedBulkPacket,
    BulkPacket,
    ControlPacket,
    InterruptPacket,
)
from kubectl_vmredir.usb.host import OUTPUT_LIMIT_BYTES
from kubectl_vmredir.usb.journal import Journal
from kubectl_vmredir.usb.process import UsbHosts
from tests.support.usb_emulator import (
    BULK_IN,
    BULK_OUT,
    DESCRIPTORS,
    ECHO,
    INTERRUPT_IN,
    SILENCE,
    EmulatedDevice,
)
from tests.support.usb_hosts import claimed, cpu_time_ns, ended

pytestmark = pytest.mark.native

IDLE_S = 0.5
MIB = 1 << 20


def control(request: int, length: int, *, kind: int = 0xC0, value: int = 0) -> ControlPacket:
    return ControlPacket(0x80, request, kind, Status.SUCCESS, value, 0, length)


async def test_control_transfer_reads_a_descriptor(hosts: UsbHosts, device: EmulatedDevice) -> None:
    async with claimed(hosts, device) as guest:
        await guest.send(control(6, 18, kind=0x80, value=0x100), 7)

        packet_id, answer = await guest.receive()

    assert isinstance(answer, ControlPacket)
    assert (packet_id, answer.status, answer.data) == (7, Status.SUCCESS, DESCRIPTORS[:18])


async def test_a_request_that_the_device_does_not_know_stalls(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device) as guest:
        await guest.send(control(99, 8), 1)

        _, answer = await guest.receive()

    assert isinstance(answer, ControlPacket)
    assert answer.status is Status.STALL


async def test_a_control_transfer_without_an_answer_times_out(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device) as guest:
        await guest.send(control(SILENCE, 8), 1)

        _, answer = await guest.receive()

    assert isinstance(answer, ControlPacket)
    assert answer.status is Status.TIMEOUT


@pytest.mark.parametrize("size", [1, 512, 65536, MIB])
async def test_bulk_data_goes_both_ways(hosts: UsbHosts, device: EmulatedDevice, size: int) -> None:
    data = os.urandom(size)
    async with claimed(hosts, device) as guest:
        await guest.send(BulkPacket(BULK_OUT, Status.SUCCESS, size, 0, data), 1)
        await guest.send(BulkPacket(BULK_IN, Status.SUCCESS, size, 0), 2)

        answers = dict([await guest.receive(), await guest.receive()])

    assert answers == {
        1: BulkPacket(BULK_OUT, Status.SUCCESS, size, 0),
        2: BulkPacket(BULK_IN, Status.SUCCESS, size, 0, data),
    }


async def test_many_transfers_under_way_are_answered_in_order(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    pieces = [bytes([number]) * 512 for number in range(100)]
    async with claimed(hosts, device) as guest:
        for number in range(100):
            await guest.send(BulkPacket(BULK_IN, Status.SUCCESS, 512, 0), number)
        for piece in pieces:
            device.offer(piece)

        answers = [await guest.receive() for _ in pieces]

    assert [packet_id for packet_id, _ in answers] == list(range(100))
    assert [getattr(packet, "data", None) for _, packet in answers] == pieces


async def test_a_bulk_endpoint_that_stalls_says_so(hosts: UsbHosts, device: EmulatedDevice) -> None:
    device.stalled.add(BULK_IN)
    async with claimed(hosts, device) as guest:
        await guest.send(BulkPacket(BULK_IN, Status.SUCCESS, 512, 0), 1)

        assert await guest.receive() == (1, BulkPacket(BULK_IN, Status.STALL, 0, 0))


async def test_a_transfer_that_waits_can_be_cancelled(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device) as guest:
        await guest.send(BulkPacket(BULK_IN, Status.SUCCESS, 512, 0), 9)
        await guest.send(CancelDataPacket(), 9)

        assert await guest.receive() == (9, BulkPacket(BULK_IN, Status.CANCELLED, 0, 0))
        assert device.under_way == 0


async def test_an_interrupt_endpoint_is_polled_until_it_is_stopped(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device) as guest:
        await guest.send(StartInterruptReceiving(INTERRUPT_IN), 1)
        started = await guest.receive()
        device.interrupt(b"one")
        device.interrupt(b"two")
        reports = [await guest.receive(), await guest.receive()]
        await guest.send(StopInterruptReceiving(INTERRUPT_IN), 2)
        stopped = await guest.receive()

    assert started == (1, InterruptReceivingStatus(Status.SUCCESS, INTERRUPT_IN))
    assert reports == [
        (0, InterruptPacket(INTERRUPT_IN, Status.SUCCESS, 3, b"one")),
        (1, InterruptPacket(INTERRUPT_IN, Status.SUCCESS, 3, b"two")),
    ]
    assert stopped == (2, InterruptReceivingStatus(Status.SUCCESS, INTERRUPT_IN))


async def test_the_guest_resets_a_device_that_was_used_once_for_each_time(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device) as guest:
        device.events.clear()
        await guest.send(Reset())  # it is fresh: nothing is done
        await guest.send(control(ECHO, 1), 1)
        await guest.receive()
        await guest.send(Reset())
        await guest.send(control(ECHO, 1), 2)
        await guest.receive()

        assert device.events == ["reset"]


async def test_the_configuration_that_is_active_is_not_set_again(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device) as guest:
        device.events.clear()
        await guest.send(SetConfiguration(1), 1)

        assert await guest.receive() == (1, ConfigurationStatus(Status.SUCCESS, 1))
        assert device.events == []


async def test_a_guest_that_reads_late_gets_all_and_is_not_asked_for_more_meanwhile(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    async with claimed(hosts, device) as guest:
        for number in range(64):
            device.offer(bytes([number]) * 65536)
        for number in range(64):
            await guest.send(BulkPacket(BULK_IN, Status.SUCCESS, 65536, 0), number)

        answers = [await guest.receive() for _ in range(64)]

    assert [(packet_id, getattr(packet, "data", b"")[:1]) for packet_id, packet in answers] == [
        (number, bytes([number])) for number in range(64)
    ]


async def test_a_stream_that_nobody_reads_ends_the_session(
    hosts: UsbHosts, device: EmulatedDevice
) -> None:
    piece = bytes(65536)
    async with claimed(hosts, device) as guest:
        await guest.send(StartBulkReceiving(0, len(piece), BULK_IN, 8), 1)
        assert await guest.receive() == (1, BulkReceivingStatus(0, BULK_IN, Status.SUCCESS))
        device.offer(piece)
        assert isinstance((await guest.receive())[1], BufferedBulkPacket)

        for _ in range(OUTPUT_LIMIT_BYTES // len(piece) + 64):
            device.offer(piece)
        events = await ended(guest)

    assert events == [{"event": "error", "message": "the VM does not take what the device sends"}]


async def test_an_idle_device_takes_no_cpu_time(
    hosts: UsbHosts, device: EmulatedDevice, journal: Journal
) -> None:
    async with claimed(hosts, device) as guest:
        await guest.send(StartInterruptReceiving(INTERRUPT_IN), 1)
        await guest.receive()
        pid = journal.holder(device.local.port_path)
        assert pid

        # It may be on its way into its wait; then it stays there.
        ran_ns = -1
        async with asyncio.timeout(20):
            while ran_ns != (ran_ns := cpu_time_ns(pid)):  # noqa: ASYNC110
                await asyncio.sleep(IDLE_S)
        await asyncio.sleep(IDLE_S)

        assert cpu_time_ns(pid) == ran_ns
