"""Differential tests against libusbredirparser, the reference implementation.

What it sends we read, what we send it reads. Where the two judge differently is listed at the
end, in tests that pass only as long as it is so. The rule behind them: we may be stricter than
the library, never laxer, because a QEMU may abort where its library rejects a packet.
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.model import UsbClass
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    NO_CAPS,
    Cap,
    PacketType,
    Side,
    Status,
    UsbSpeed,
    agree,
)
from kubectl_vmredir.protocol.control import (
    DeviceDisconnect,
    DeviceDisconnectAck,
    InterruptReceivingStatus,
    SetConfiguration,
)
from kubectl_vmredir.protocol.data import BulkPacket, InterruptPacket, IsoPacket
from kubectl_vmredir.protocol.description import (
    DeviceConnect,
    FilterFilter,
    Hello,
    Interface,
    InterfaceInfo,
)
from kubectl_vmredir.protocol.filter import FilterRule
from kubectl_vmredir.protocol.layout import LAYOUTS, MAX_BULK_SIZE
from kubectl_vmredir.protocol.packets import Packet, encode_packet
from kubectl_vmredir.protocol.parser import Parser
from tests.support import protocol_strategies as strategies
from tests.support.c_parser import CParser

pytestmark = pytest.mark.native

OTHER = {Side.HOST: Side.GUEST, Side.GUEST: Side.HOST}
# Caps of both sides: none, all, each alone, all but each.
CAP_SETS = [NO_CAPS, ALL_CAPS, *Cap, *(ALL_CAPS & ~cap for cap in Cap)]


def _sides(packet_type: PacketType) -> list[Side]:
    return sorted(LAYOUTS[packet_type].senders, key=lambda side: side.name)


EACH = [
    pytest.param(sender, packet_type, caps, id=f"{sender.name}-{packet_type.label}-{caps:#04x}")
    for packet_type in PacketType
    if packet_type is not PacketType.HELLO
    for sender in _sides(packet_type)
    for caps in CAP_SETS
    if LAYOUTS[packet_type].needs in caps
]


def hello(caps: Cap, version: str = "ours") -> bytes:
    return encode_packet(Hello(version, caps), packet_id=0, caps=NO_CAPS)


def met(c_side: Side, caps: Cap) -> CParser:
    """Return a C side that has had our hello; both have the same caps."""
    c_parser = CParser(c_side, caps)
    c_parser.receive(hello(caps))
    return c_parser


def parser_of(sender: Side, caps: Cap) -> Parser:
    """Return our parser of what ``sender`` says, after its hello; both have the same caps."""
    parser = Parser(sender, own_caps=caps)
    parser.feed(hello(caps))
    return parser


@pytest.mark.parametrize("side", Side)
@given(
    version=st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=80),
    caps=strategies.caps,
)
def test_its_hello_is_read(side: Side, version: str, caps: Cap) -> None:
    with CParser(side, caps, version=version) as c_parser:
        [(header, packet)] = Parser(side).feed(c_parser.sent())

    expected = caps
    if side is Side.GUEST:
        # The library acknowledges a disconnect by itself, so it always says that it can.
        expected |= Cap.DEVICE_DISCONNECT_ACK
    if Cap.EP_INFO_MAX_PACKET_SIZE not in caps:
        expected &= ~Cap.BULK_STREAMS
    assert packet == Hello(version[:63], expected)
    assert header.id == 0


@pytest.mark.parametrize("side", Side)
@given(ours=strategies.hellos, own_caps=strategies.caps)
def test_our_hello_is_read(side: Side, ours: Hello, own_caps: Cap) -> None:
    with CParser(side, own_caps) as c_parser:
        c_parser.receive(encode_packet(ours, packet_id=0, caps=NO_CAPS))

        assert c_parser.peer_version == ours.version
        assert c_parser.peer_caps == agree(ours.caps, ALL_CAPS)
        assert c_parser.agreed == agree(own_caps, ours.caps)


@pytest.mark.parametrize(("sender", "packet_type", "caps"), EACH)
@settings(max_examples=4)
@given(data=st.data())
def test_each_type_both_ways(
    sender: Side, packet_type: PacketType, caps: Cap, data: st.DataObject
) -> None:
    agreed = agree(caps, caps)
    packet = data.draw(strategies.bodies(packet_type, sender, agreed), label="packet")
    packet_id = data.draw(strategies.ids(agreed), label="id")
    with met(sender, caps) as c_sender, met(OTHER[sender], caps) as c_receiver:
        if not c_sender.has_id(packet_type):
            packet_id = 0
        ours = encode_packet(packet, packet_id=packet_id, caps=agreed)

        c_receiver.receive(ours)
        assert (c_receiver.received, c_receiver.broken) == ([(packet_id, packet)], 0)

        if packet_type is PacketType.DEVICE_DISCONNECT_ACK:
            return  # see test_it_acknowledges_a_disconnect
        c_sender.sent()
        c_sender.send(packet, packet_id)
        theirs = c_sender.sent()
        assert theirs == ours
        [(header, read)] = parser_of(sender, caps).feed(theirs)
        assert (header.id, read) == (packet_id, packet)


def test_the_table_of_types_is_whole() -> None:
    assert {param.values[1] for param in EACH} == set(PacketType) - {PacketType.HELLO}


@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
def test_it_acknowledges_a_disconnect(wide: bool) -> None:
    caps = ALL_CAPS if wide else ALL_CAPS & ~Cap.IDS_64BITS
    with met(Side.GUEST, caps) as guest:
        parser = Parser(Side.GUEST, own_caps=caps)
        guest.receive(encode_packet(DeviceDisconnect(), packet_id=0, caps=caps))

        packets = [packet for _, packet in parser.feed(guest.sent())]

    assert packets[1:] == [DeviceDisconnectAck()]


@given(stream=strategies.streams(), sizes=strategies.chunk_sizes)
def test_it_reads_our_streams_whatever_the_chunks(
    stream: strategies.Stream, sizes: list[int]
) -> None:
    with CParser(OTHER[stream.sender], stream.own_caps) as c_parser:
        for chunk in strategies.chunked(b"".join(stream.wire), sizes):
            c_parser.receive(bytes(chunk))

        expected = [
            (packet_id if c_parser.has_id(packet.type) else 0, packet)
            for packet_id, packet in stream.rest
        ]
        assert c_parser.received == expected
        assert c_parser.broken == 0


@settings(max_examples=400)
@given(
    stream=strategies.streams(),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3),
)
def test_what_we_let_through_it_does_not_reject(
    stream: strategies.Stream, changes: list[tuple[float, int]]
) -> None:
    first, *rest = stream.wire
    data = bytearray(b"".join(rest))
    for place, value in changes if data else []:
        data[int(place * len(data))] = value
    parser = Parser(stream.sender, own_caps=stream.own_caps)
    parser.feed(first)
    try:
        ours = parser.feed(bytes(data))
    except RemoteProtocolError:
        return
    with CParser(OTHER[stream.sender], stream.own_caps) as c_parser:
        c_parser.receive(first)
        c_parser.errors.clear()  # that bulk_streams went without max_packet_size, at times
        c_parser.receive(bytes(data))

        assert (c_parser.broken, c_parser.errors) == (0, [])
        assert [packet for _, packet in c_parser.received] == [packet for _, packet in ours]


# -- where both refuse ----------------------------------------------------------------------

REFUSED: list[tuple[Side, str, str]] = [
    (Side.GUEST, "1c000000 00000000 0000000000000000", "unknown type"),
    (Side.HOST, "06000000 01000000 0000000000000000 01", "set_configuration to a guest"),
    (Side.GUEST, "02000000 00000000 0000000000000000", "device_disconnect to a host"),
    (Side.HOST, "11000000 02000000 0000000000000000 0000", "interrupt status, endpoint 0x00"),
    (Side.HOST, "1b000000 06000000 0000000000000000 00000000 0000", "bulk status, endpoint 0x00"),
    (Side.GUEST, "0f000000 01000000 0000000000000000 01", "interrupt receiving on an output"),
    (Side.GUEST, "03000000 01000000 0000000000000000 00", "reset with a body"),
    (Side.GUEST, "17000000 01000000 0000000000000000 31", "filter without NUL"),
    (Side.GUEST, "65000000 0a000000 0000000000000000 02000500000000000000", "data is missing"),
    (Side.HOST, "65000000 0b000000 0000000000000000 0200010000000000000000", "data in an ack"),
    (Side.GUEST, "66000000 04000000 0000000000000000 81000000", "iso input from a guest"),
    (Side.GUEST, "67000000 04000000 0000000000000000 81000000", "interrupt input from a guest"),
    (Side.HOST, "68000000 0a000000 0000000000000000 00000000000000000200", "buffered output"),
    (Side.HOST, "04000000 84000000 0000000000000000 21000000" + "00" * 128, "33 interfaces"),
]


@pytest.mark.parametrize(
    ("sender", "wire"),
    [pytest.param(sender, wire, id=name) for sender, wire, name in REFUSED],
)
def test_both_refuse(sender: Side, wire: str) -> None:
    data = bytes.fromhex(wire)

    with pytest.raises(RemoteProtocolError):
        parser_of(sender, ALL_CAPS).feed(data)
    with met(OTHER[sender], ALL_CAPS) as c_parser:
        c_parser.receive(data)
        assert c_parser.broken == 1


# -- where we are stricter ------------------------------------------------------------------


def refuses(sender: Side, data: bytes, *, own_caps: Cap = ALL_CAPS, theirs: Cap = ALL_CAPS) -> str:
    """Return why we refuse ``data`` after a hello with ``theirs``."""
    parser = Parser(sender, own_caps=own_caps)
    parser.feed(hello(theirs))
    with pytest.raises(RemoteProtocolError) as caught:
        parser.feed(data)
    return str(caught.value)


def test_packets_before_hello_it_takes_with_narrow_ids() -> None:
    data = encode_packet(SetConfiguration(1), packet_id=7, caps=NO_CAPS)

    with CParser(Side.HOST, ALL_CAPS) as c_parser:
        c_parser.receive(data)
        assert c_parser.received == [(7, SetConfiguration(1))]

    with pytest.raises(RemoteProtocolError, match="before hello"):
        Parser(Side.GUEST, own_caps=ALL_CAPS).feed(data)


def test_a_second_hello_it_ignores() -> None:
    body = hello(NO_CAPS)[12:]
    data = struct.pack("<IIQ", 0, len(body), 0) + body

    with met(Side.HOST, ALL_CAPS) as c_parser:
        c_parser.receive(data)
        assert c_parser.broken == 0
        assert c_parser.peer_caps == ALL_CAPS

    assert refuses(Side.GUEST, data) == "second hello"


@pytest.mark.parametrize("size", [65, 128 + 4], ids=["half-a-word", "too-many-words"])
def test_any_length_of_hello_it_takes(size: int) -> None:
    data = struct.pack("<III", 0, size, 0) + bytes(size)

    with CParser(Side.HOST, ALL_CAPS) as c_parser:
        c_parser.receive(data)
        assert c_parser.broken == 0

    with pytest.raises(RemoteProtocolError, match=f"hello of {size} bytes"):
        Parser(Side.GUEST, own_caps=ALL_CAPS).feed(data)


def test_unknown_speed_and_endpoint_type_it_takes() -> None:
    connect = struct.pack("<IIQ", 1, 10, 0) + b"\x04" + bytes(9)
    ep_info = struct.pack("<IIQ", 5, 288, 0) + b"\x04" + bytes(287)

    with met(Side.GUEST, ALL_CAPS) as c_parser:
        c_parser.receive(connect + ep_info)
        assert c_parser.broken == 0
        assert len(c_parser.received) == 2

    assert "unknown speed 4" in refuses(Side.HOST, connect)
    assert "unknown type" in refuses(Side.HOST, ep_info)


@pytest.mark.parametrize("text", [b"nonsense\0", b"-1,-1,-1,-1,1,1\0", b"256,-1,-1,-1,1\0"])
def test_a_filter_that_is_none_it_ignores(text: bytes) -> None:
    data = struct.pack("<IIQ", 23, len(text), 0) + text

    with met(Side.HOST, ALL_CAPS) as c_parser:
        c_parser.receive(data)
        assert (c_parser.broken, c_parser.received) == (0, [])
        assert "ignoring filter message" in c_parser.errors[0]

    assert "bad filter" in refuses(Side.GUEST, data)


def test_transfers_over_a_mebibyte_it_takes() -> None:
    size = MAX_BULK_SIZE + 1
    body = struct.pack("<BBHIH", 0x82, 0, size & 0xFFFF, 0, size >> 16)
    data = struct.pack("<IIQ", 101, len(body), 0) + body

    with met(Side.HOST, ALL_CAPS) as c_parser:
        c_parser.receive(data)
        assert c_parser.received == [(0, BulkPacket(0x82, Status.SUCCESS, size))]

    assert "a length of 1048577 bytes" in refuses(Side.GUEST, data)


def test_it_asks_only_the_receiver_for_the_cap() -> None:
    no_filter = ALL_CAPS & ~Cap.FILTER
    data = encode_packet(FilterFilter(()), packet_id=0, caps=ALL_CAPS)

    with CParser(Side.HOST, ALL_CAPS) as c_parser:
        c_parser.receive(hello(no_filter))
        c_parser.receive(data)
        assert c_parser.received == [(0, FilterFilter(()))]

    assert refuses(Side.GUEST, data, theirs=no_filter) == "filter_filter without cap FILTER"


def test_after_a_fault_it_goes_on_with_the_next_packet() -> None:
    wrong = encode_packet(DeviceDisconnect(), packet_id=0, caps=ALL_CAPS)
    right = encode_packet(SetConfiguration(1), packet_id=0, caps=ALL_CAPS)

    with met(Side.HOST, ALL_CAPS) as c_parser:
        c_parser.receive(wrong + right)
        assert (c_parser.broken, c_parser.received) == (1, [(0, SetConfiguration(1))])

    assert "device_disconnect is not for a usb-guest" in refuses(Side.GUEST, wrong + right)


# -- where we are laxer, on the sending side only --------------------------------------------


@pytest.mark.parametrize(
    "packet",
    [IsoPacket(0x02, Status.SUCCESS, 0), BulkPacket(0x02, Status.SUCCESS, 1, 0, b"x")],
    ids=["iso", "bulk"],
)
def test_encoding_does_not_know_the_sender_but_the_parser_does(packet: Packet) -> None:
    data = encode_packet(packet, packet_id=0, caps=ALL_CAPS)

    with met(Side.HOST, ALL_CAPS) as c_parser:
        c_parser.sent()
        c_parser.send(packet, 0)
        assert c_parser.sent() == b""

    assert "against its direction" in refuses(Side.HOST, data)


# -- what stays as it is --------------------------------------------------------------------


def test_the_poke_and_what_is_unusual_but_right_passes_on_both_sides() -> None:
    packets: list[Packet] = [
        InterruptReceivingStatus(Status.SUCCESS, 0x80),
        InterruptPacket(0x02, Status(200), 0xFFFF),
        DeviceConnect(UsbSpeed.UNKNOWN, 0xFF, 0xFF, 0xFF, 0xFFFF, 0xFFFF, 0xFFFF),
        InterfaceInfo((Interface(0, UsbClass(3, 0, 0)),) * 32),
        FilterFilter((FilterRule(),)),
    ]
    data = b"".join(encode_packet(packet, packet_id=0, caps=ALL_CAPS) for packet in packets)

    with met(Side.GUEST, ALL_CAPS) as c_parser:
        c_parser.receive(data)
        assert [packet for _, packet in c_parser.received] == packets

    assert [packet for _, packet in parser_of(Side.HOST, ALL_CAPS).feed(data)] == packets
