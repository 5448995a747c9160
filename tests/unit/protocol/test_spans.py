from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    NO_CAPS,
    Cap,
    PacketType,
    Side,
    Status,
)
from kubectl_vmredir.protocol.control import (
    CancelDataPacket,
    DeviceDisconnect,
    DeviceDisconnectAck,
    Reset,
)
from kubectl_vmredir.protocol.data import BulkPacket, DataPacket, InterruptPacket
from kubectl_vmredir.protocol.description import Endpoint, EpInfo, Hello
from kubectl_vmredir.protocol.layout import MAX_BULK_SIZE, senders
from kubectl_vmredir.protocol.packets import Packet, encode_packet
from kubectl_vmredir.protocol.spans import Span, SpanTracker
from tests.support import protocol_strategies as strategies

OK = Status.SUCCESS
HELLO = encode_packet(Hello("x", ALL_CAPS), packet_id=0, caps=NO_CAPS)


def tracker_after_hello(sender: Side) -> SpanTracker:
    tracker = SpanTracker(sender, own_caps=ALL_CAPS)
    tracker.feed(HELLO)
    return tracker


def wire(packet: Packet, packet_id: int = 0) -> bytes:
    return encode_packet(packet, packet_id=packet_id, caps=ALL_CAPS)


def expected_spans(stream: strategies.Stream) -> list[Span]:
    """Build the spans from the packets, not from the bytes."""
    spans: list[Span] = []
    offset = 0
    packets = [(0, stream.hello), *stream.rest]
    for (packet_id, packet), data in zip(packets, stream.wire, strict=True):
        is_hello = packet.type is PacketType.HELLO
        header_size = 16 if Cap.IDS_64BITS in stream.agreed and not is_hello else 12
        body = data[header_size:]
        spans.append(
            Span(
                packet.type,
                packet_id,
                len(body),
                offset,
                offset + len(data),
                packet.type << 8 | (packet.endpoint if isinstance(packet, DataPacket) else 0),
                packet.length if isinstance(packet, DataPacket) else 0,
                body[:10],
                None if packet.type.is_data else body,
            )
        )
        offset += len(data)
    return spans


def track(stream: strategies.Stream, sizes: list[int]) -> list[Span]:
    tracker = SpanTracker(stream.sender, own_caps=stream.own_caps)
    spans: list[Span] = []
    fed = 0
    for chunk in strategies.chunked(b"".join(stream.wire), sizes):
        spans += tracker.feed(chunk)
        fed += len(chunk)
        assert tracker.offset == fed
        assert tracker.boundary == max((each.end for each in spans if each.end <= fed), default=0)
    assert tracker.boundary == tracker.offset
    assert tracker.caps == stream.agreed
    return spans


@given(stream=strategies.streams(), sizes=strategies.chunk_sizes)
def test_spans_come_out_whatever_the_chunks(stream: strategies.Stream, sizes: list[int]) -> None:
    assert track(stream, sizes) == expected_spans(stream)


@given(stream=strategies.streams(max_packets=4))
def test_spans_come_out_of_one_chunk_and_byte_by_byte(stream: strategies.Stream) -> None:
    whole = track(stream, [sum(map(len, stream.wire))])

    assert whole == track(stream, [1]) == expected_spans(stream)


@given(stream=strategies.streams())
def test_bytes_are_tracked_like_views_of_them(stream: strategies.Stream) -> None:
    tracker = SpanTracker(stream.sender, own_caps=stream.own_caps)

    assert tracker.feed(b"".join(stream.wire)) == expected_spans(stream)


def test_span_of_a_data_packet_comes_with_its_head() -> None:
    tracker = tracker_after_hello(Side.HOST)
    data = wire(BulkPacket(0x81, Status.STALL, 100, 0, bytes(100)), 7)

    assert tracker.feed(data[:25]) == []
    assert tracker.boundary == 80
    [span] = tracker.feed(data[25:26])

    assert (span.type, span.id, span.length) == (PacketType.BULK_PACKET, 7, 110)
    assert (span.endpoint, span.status) == (0x81, Status.STALL)
    assert (span.offset, span.end) == (80, 80 + len(data))
    assert span.body is None
    assert tracker.boundary == 80
    assert tracker.feed(data[26:]) == []
    assert tracker.boundary == span.end


def test_span_of_a_control_packet_comes_with_its_last_byte() -> None:
    tracker = tracker_after_hello(Side.HOST)
    data = wire(EpInfo((Endpoint(),) * 32))

    assert tracker.feed(data[:-1]) == []
    [span] = tracker.feed(data[-1:])

    assert span.body == data[16:]
    assert span.head == data[16:26]
    assert (span.endpoint, span.status) == (None, None)


def test_head_of_a_short_packet_does_not_reach_into_the_next() -> None:
    tracker = tracker_after_hello(Side.HOST)
    short = wire(InterruptPacket(0x81, OK, 1, b"x"))

    spans = tracker.feed(short * 3)

    assert [span.head for span in spans] == [short[16:]] * 3


@pytest.mark.parametrize("packet_type", PacketType, ids=lambda each: each.label)
@given(data=st.data())
def test_endpoint_and_status_of_a_span_are_those_of_its_packet(
    packet_type: PacketType, data: st.DataObject
) -> None:
    sender = data.draw(st.sampled_from(sorted(senders(packet_type), key=lambda side: side.name)))
    packet = data.draw(strategies.bodies(packet_type, sender, ALL_CAPS))
    if packet_type is PacketType.HELLO:
        tracker = SpanTracker(sender)
    else:
        tracker = tracker_after_hello(sender)

    [span] = tracker.feed(wire(packet))

    assert span.endpoint == getattr(packet, "endpoint", None)
    assert span.status == getattr(packet, "status", None)


def test_the_poke_passes() -> None:
    data = bytes.fromhex("11000000 02000000 0000000000000000 0080")

    [span] = tracker_after_hello(Side.HOST).feed(data)

    assert span.type is PacketType.INTERRUPT_RECEIVING_STATUS


def test_ids_stay_narrow_until_hello_is_read_and_when_one_side_has_no_wide_ones() -> None:
    tracker = SpanTracker(Side.GUEST, own_caps=ALL_CAPS & ~Cap.IDS_64BITS)
    reset = bytes.fromhex("03000000 00000000 04030201")

    hello, span = tracker.feed(HELLO + reset)

    assert (hello.end, hello.length) == (80, 68)
    assert (span.end - span.offset, span.id) == (12, 0x0102_0304)


def test_own_caps_may_be_told_after_the_hello_of_the_peer() -> None:
    tracker = SpanTracker(Side.GUEST)
    tracker.feed(HELLO)
    assert tracker.caps is None

    tracker.own_caps = NO_CAPS

    assert tracker.caps == NO_CAPS
    assert tracker.feed(encode_packet(Reset(), packet_id=1, caps=NO_CAPS))[0].id == 1


def header(raw_type: int, length: int) -> bytes:
    return struct.pack("<IIQ", raw_type, length, 0)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (header(28, 0), "unknown packet type 28"),
        (header(2, 0), "device_disconnect is not for a usb-guest to send"),
        (header(104, 10), "buffered_bulk_packet is not for a usb-guest to send"),
        (header(3, 1), "reset of 1 bytes"),
        (header(23, 1 << 31), "filter_filter of 2147483648 bytes"),
        (header(101, 9), "bulk_packet of 9 bytes"),
        (header(101, 11 + MAX_BULK_SIZE), "bulk_packet of 1048587 bytes"),
        (header(0, 68), "second hello"),
        (header(15, 1) + b"\x01", "start_interrupt_receiving for output endpoint 0x01"),
        (
            header(101, 10) + bytes.fromhex("02 00 0500 00000000 0000"),
            "bulk_packet for endpoint 0x02 with 0 of 5 bytes of data",
        ),
        (
            header(101, 10) + bytes.fromhex("82 00 0100 00000000 1000"),
            "bulk_packet for endpoint 0x82 with a length of 1048577 bytes",
        ),
        (
            header(101, 15) + bytes.fromhex("82 00 0500 00000000 0000"),
            "bulk_packet for endpoint 0x82 with data against its direction",
        ),
        (
            header(100, 15) + bytes.fromhex("00 09 21 00 0002 0100 0600"),
            "control_packet for endpoint 0x00 with 5 of 6 bytes of data",
        ),
        (
            header(102, 4) + bytes.fromhex("81 00 0000"),
            "iso_packet for endpoint 0x81 against its direction",
        ),
        (
            header(103, 4) + bytes.fromhex("81 00 0000"),
            "interrupt_packet for endpoint 0x81 against its direction",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
@pytest.mark.parametrize("followed", [False, True], ids=["alone", "followed"])
def test_faults_of_a_guest(data: bytes, fault: str, followed: bool) -> None:
    # What follows puts the packet on the fast path, where its head is in the chunk.
    tracker = tracker_after_hello(Side.GUEST)

    for chunk in (data + bytes(100 if followed else 0), b""):
        with pytest.raises(RemoteProtocolError) as caught:
            tracker.feed(chunk)
        assert str(caught.value) == fault


@pytest.mark.parametrize("followed", [False, True], ids=["alone", "followed"])
def test_answer_of_endpoint_zero_in_without_its_data_is_a_fault(followed: bool) -> None:
    data = header(100, 10) + bytes.fromhex("80 06 80 00 0001 0000 1200")

    with pytest.raises(RemoteProtocolError, match="endpoint 0x80 with 0 of 18 bytes of data"):
        tracker_after_hello(Side.HOST).feed(data + bytes(100 if followed else 0))


def test_data_behind_a_narrow_bulk_header_is_not_taken_for_its_length() -> None:
    tracker = SpanTracker(Side.HOST, own_caps=NO_CAPS)
    tracker.feed(HELLO)
    data = struct.pack("<III", 101, 8 + (1 << 16), 0) + bytes.fromhex("81 00 0000 00000000 0100")

    with pytest.raises(RemoteProtocolError, match="with 65536 of 0 bytes of data"):
        tracker.feed(data + bytes(100))


@pytest.mark.parametrize(
    ("packet", "fault"),
    [
        (DeviceDisconnectAck(), "device_disconnect_ack without cap DEVICE_DISCONNECT_ACK"),
        (CancelDataPacket(), ""),
    ],
    ids=["needs", "does-not"],
)
def test_packet_without_its_cap_is_a_fault(packet: Packet, fault: str) -> None:
    tracker = SpanTracker(Side.GUEST, own_caps=ALL_CAPS & ~Cap.DEVICE_DISCONNECT_ACK)
    tracker.feed(HELLO)

    if not fault:
        assert len(tracker.feed(wire(packet))) == 1
        return
    with pytest.raises(RemoteProtocolError, match=fault):
        tracker.feed(wire(packet))


def test_nothing_comes_before_hello() -> None:
    tracker = SpanTracker(Side.HOST, own_caps=ALL_CAPS)

    with pytest.raises(RemoteProtocolError, match="device_disconnect before hello"):
        tracker.feed(wire(DeviceDisconnect()))


def test_nothing_follows_hello_before_ours_is_known() -> None:
    # Nobody can know the width of the ids before: no honest peer sends now.
    tracker = SpanTracker(Side.HOST)

    with pytest.raises(RemoteProtocolError, match="device_disconnect before it had a hello"):
        tracker.feed(HELLO + wire(DeviceDisconnect()))


def test_second_hello_is_a_fault_even_before_ours_is_known() -> None:
    tracker = SpanTracker(Side.HOST)

    with pytest.raises(RemoteProtocolError, match="second hello"):
        tracker.feed(HELLO + HELLO)


@given(
    sender=st.sampled_from(Side),
    data=st.binary(max_size=200),
    sizes=strategies.chunk_sizes,
)
def test_any_bytes_are_tracked_or_blame_the_peer(
    sender: Side, data: bytes, sizes: list[int]
) -> None:
    tracker = SpanTracker(sender, own_caps=ALL_CAPS)
    faults: list[str] = []
    for chunk in strategies.chunked(data, sizes):
        try:
            tracker.feed(chunk)
            faults.append("")
        except RemoteProtocolError as error:
            faults.append(str(error))

    # Once broken, it stays so, and for the same reason.
    assert faults == sorted(faults, key=bool)
    assert len(set(faults) - {""}) <= 1
