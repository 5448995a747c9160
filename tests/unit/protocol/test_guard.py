from __future__ import annotations

import pytest

from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    NO_CAPS,
    Cap,
    PacketType,
    Status,
    TransferType,
    endpoint_index,
)
from kubectl_vmredir.protocol.control import (
    AllocBulkStreams,
    CancelDataPacket,
    ConfigurationStatus,
    FreeBulkStreams,
    InterruptReceivingStatus,
    Reset,
    SetConfiguration,
    StartBulkReceiving,
    StartInterruptReceiving,
    StartIsoStream,
    StopBulkReceiving,
    StopInterruptReceiving,
    StopIsoStream,
)
from kubectl_vmredir.protocol.data import (
    BufferedBulkPacket,
    BulkPacket,
    ControlPacket,
    InterruptPacket,
    IsoPacket,
)
from kubectl_vmredir.protocol.description import Endpoint, EpInfo, FilterFilter, Hello
from kubectl_vmredir.protocol.filter import parse_rules
from kubectl_vmredir.protocol.guard import GuestGuard, HostGuard
from kubectl_vmredir.protocol.packets import Packet
from tests.support.wire import Numbered, wire

OK = Status.SUCCESS
ENDPOINTS = {
    0x00: TransferType.CONTROL,
    0x80: TransferType.CONTROL,
    0x81: TransferType.BULK,
    0x02: TransferType.BULK,
    0x83: TransferType.INTERRUPT,
    0x04: TransferType.INTERRUPT,
    0x85: TransferType.ISO,
    0x06: TransferType.ISO,
}


def ep_info() -> EpInfo:
    endpoints = [Endpoint()] * 32
    for address, kind in ENDPOINTS.items():
        endpoints[endpoint_index(address)] = Endpoint(kind, max_packet_size=512)
    return EpInfo(tuple(endpoints))


def mask(*addresses: int) -> int:
    return sum(1 << endpoint_index(address) for address in addresses)


def host_guard(*packets: Packet, caps: Cap = ALL_CAPS) -> HostGuard:
    guard = HostGuard()
    guard.agree(caps)
    guard.feed(memoryview(wire(Hello("host", caps), *packets, caps=caps)))
    return guard


def guest_guard(*, caps: Cap = ALL_CAPS, device: bool = True) -> GuestGuard:
    host = host_guard(*([ep_info()] if device else []), caps=caps)
    guard = GuestGuard(host, caps)
    guard.feed(memoryview(wire(Hello("guest", caps))))
    return guard


FROM_GUEST = [
    pytest.param(ControlPacket(0x80, 6, 0x80, OK, 0x100, 0, 18), id="control-in"),
    pytest.param(ControlPacket(0x00, 9, 0x21, OK, 0x200, 0, 1, b"\1"), id="control-out"),
    pytest.param(BulkPacket(0x81, OK, 1 << 20), id="bulk-in"),
    pytest.param(BulkPacket(0x02, OK, 3, 0, b"abc"), id="bulk-out"),
    pytest.param(InterruptPacket(0x04, OK, 1, b"x"), id="interrupt-out"),
    pytest.param(IsoPacket(0x06, OK, 1, b"x"), id="iso-out"),
    pytest.param(StartIsoStream(0x85, 8, 4), id="start-iso-in"),
    pytest.param(StartIsoStream(0x06, 8, 4), id="start-iso-out"),
    pytest.param(StartInterruptReceiving(0x83), id="start-interrupt"),
    pytest.param(StartBulkReceiving(0, 512, 0x81, 5), id="start-bulk"),
    pytest.param(AllocBulkStreams(mask(0x81, 0x02), 4), id="alloc-streams"),
    pytest.param(SetConfiguration(1), id="set-configuration"),
    pytest.param(Reset(), id="reset"),
    pytest.param(CancelDataPacket(), id="cancel"),
]


@pytest.mark.parametrize("packet", FROM_GUEST)
def test_what_the_device_can_do_may_be_asked_for(packet: Packet) -> None:
    spans = guest_guard().feed(memoryview(wire((7, packet))))

    assert [(span.type, span.id) for span in spans] == [(packet.type, 7)]


ENDS_FOR_GONE_ENDPOINTS = [
    StopIsoStream(0x8C),
    StopInterruptReceiving(0x8C),
    StopBulkReceiving(0, 0x8C),
    FreeBulkStreams(mask(0x8C)),
]


@pytest.mark.parametrize("packet", ENDS_FOR_GONE_ENDPOINTS, ids=lambda packet: packet.type.label)
def test_what_ends_something_may_come_late(packet: Packet) -> None:
    assert guest_guard().feed(memoryview(wire(packet)))


REFUSED = [
    pytest.param(BulkPacket(0x8C, OK, 512), "bulk_packet for endpoint 0x8c", id="no-endpoint"),
    pytest.param(BulkPacket(0x83, OK, 512), "bulk_packet for endpoint 0x83", id="other-type"),
    pytest.param(ControlPacket(0x81, 6, 0x80, OK, 0, 0, 9), "control_packet", id="no-control"),
    pytest.param(InterruptPacket(0x02, OK, 1, b"x"), "interrupt_packet", id="no-interrupt"),
    pytest.param(IsoPacket(0x02, OK, 1, b"x"), "iso_packet", id="no-iso"),
    pytest.param(BulkPacket(0x72, OK, 1, 0, b"x"), "endpoint 0x72", id="no-such-address"),
    pytest.param(StartIsoStream(0x81, 8, 4), "start_iso_stream", id="start-iso"),
    pytest.param(StartInterruptReceiving(0x81), "start_interrupt_receiving", id="start-interrupt"),
    pytest.param(StartBulkReceiving(0, 512, 0x83, 5), "start_bulk_receiving", id="start-bulk"),
    pytest.param(StartBulkReceiving(0, 0, 0x81, 5), "transfers of 0 bytes", id="endless"),
    pytest.param(AllocBulkStreams(mask(0x81, 0x83), 4), "endpoint 0x83", id="alloc-streams"),
    pytest.param(ControlPacket(0x80, 9, 0x21, OK, 0, 0, 8), "two directions", id="two-directions"),
    pytest.param(
        ControlPacket(0x00, 6, 0x80, OK, 0, 0, 1, b"x"), "two directions", id="two-directions-out"
    ),
]


@pytest.mark.parametrize(("packet", "reason"), REFUSED)
def test_what_the_device_cannot_do_is_refused(packet: Packet, reason: str) -> None:
    guard = guest_guard()

    with pytest.raises(RemoteProtocolError, match=reason):
        guard.feed(memoryview(wire(packet)))


def test_nothing_may_be_asked_of_an_unknown_device() -> None:
    guard = guest_guard(device=False)

    with pytest.raises(RemoteProtocolError, match="control_packet for endpoint 0x80"):
        guard.feed(memoryview(wire(ControlPacket(0x80, 6, 0x80, OK, 0x100, 0, 18))))


def test_the_latest_description_counts() -> None:
    host = host_guard(ep_info())
    guest = GuestGuard(host, ALL_CAPS)
    guest.feed(memoryview(wire(Hello("guest", ALL_CAPS))))
    host.feed(memoryview(wire(EpInfo((Endpoint(),) * 32))))

    with pytest.raises(RemoteProtocolError, match="endpoint 0x81"):
        guest.feed(memoryview(wire(BulkPacket(0x81, OK, 512))))


def test_a_guest_whose_packets_go_nowhere_is_followed_only() -> None:
    guard = guest_guard(device=False)

    spans = guard.follow(memoryview(wire(BulkPacket(0x81, OK, 512))))

    assert [span.type for span in spans] == [PacketType.BULK_PACKET]


def test_hello_of_the_host_may_come_after_that_of_the_guest() -> None:
    guard = GuestGuard(host_guard(ep_info()), None)
    guard.feed(memoryview(wire(Hello("guest", ALL_CAPS))))
    guard.agree(ALL_CAPS)

    assert guard.feed(memoryview(wire((1, BulkPacket(0x81, OK, 512)))))


FROM_HOST = [
    pytest.param(InterruptPacket(0x83, OK, 1, b"x"), id="interrupt-in"),
    pytest.param(InterruptPacket(0x04, OK, 1), id="interrupt-out"),
    pytest.param(IsoPacket(0x85, OK, 1, b"x"), id="iso-in"),
    pytest.param(BufferedBulkPacket(0, 1, 0x81, OK, b"x"), id="buffered-bulk"),
    pytest.param(BulkPacket(0x8C, Status.CANCELLED, 0), id="late-answer-of-a-gone-endpoint"),
    pytest.param(InterruptPacket(0x0C, Status.CANCELLED, 0), id="late-answer-of-another"),
    pytest.param(ConfigurationStatus(OK, 1), id="status"),
    pytest.param(InterruptReceivingStatus(OK, 0x80), id="poke"),
]


@pytest.mark.parametrize("packet", FROM_HOST)
def test_what_a_guest_can_take_may_pass(packet: Packet) -> None:
    spans = host_guard(ep_info()).feed(memoryview(wire((7, packet))))

    assert [(span.type, span.id) for span in spans] == [(packet.type, 7)]


DANGEROUS: list[object] = [
    pytest.param(FilterFilter(parse_rules("-1,-1,-1,-1,1")), "would crash the VM", id="filter"),
    pytest.param(InterruptPacket(0x81, OK, 1, b"x"), "interrupt_packet from endpoint", id="no-int"),
    pytest.param(IsoPacket(0x83, OK, 1, b"x"), "iso_packet from endpoint 0x83", id="no-iso"),
    pytest.param(BufferedBulkPacket(0, 1, 0x83, OK, b"x"), "from endpoint 0x83", id="no-bulk"),
    pytest.param(SetConfiguration(1), "not for a usb-host to send", id="command"),
]


@pytest.mark.parametrize(("packet", "reason"), DANGEROUS)
def test_what_would_harm_the_vm_is_refused(packet: Numbered, reason: str) -> None:
    guard = host_guard(ep_info())

    with pytest.raises(RemoteProtocolError, match=reason):
        guard.feed(memoryview(wire(packet)))


def test_receiving_status_for_an_output_is_refused() -> None:
    """It makes QEMU abort when anything follows it in the same read (docs/facts/qemu.md)."""
    guard = host_guard(ep_info())
    poke = bytearray(wire(InterruptReceivingStatus(OK, 0x80)))
    poke[-1] = 0x00

    with pytest.raises(RemoteProtocolError, match="output endpoint 0x00"):
        guard.feed(memoryview(poke))


def test_endpoints_are_read_by_the_caps() -> None:
    host = host_guard(ep_info(), caps=NO_CAPS)

    assert host.caps == NO_CAPS
    assert PacketType.BULK_PACKET << 8 | 0x81 in host.requests
