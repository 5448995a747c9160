from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.protocol.constants import ALL_CAPS, NO_CAPS, Cap, Side, Status
from kubectl_vmredir.protocol.control import DeviceDisconnect, Reset
from kubectl_vmredir.protocol.data import BulkPacket
from kubectl_vmredir.protocol.description import Hello
from kubectl_vmredir.protocol.packets import Header, Packet, encode_packet
from kubectl_vmredir.protocol.parser import Parser
from kubectl_vmredir.protocol.spans import SpanTracker
from tests.support import protocol_strategies as strategies

HELLO = encode_packet(Hello("x", ALL_CAPS), packet_id=0, caps=NO_CAPS)


def parse(stream: strategies.Stream, sizes: list[int]) -> list[tuple[Header, Packet]]:
    parser = Parser(stream.sender, own_caps=stream.own_caps)
    found: list[tuple[Header, Packet]] = []
    for chunk in strategies.chunked(b"".join(stream.wire), sizes):
        found += parser.feed(chunk)
    assert parser.caps == stream.agreed
    return found


def expected(stream: strategies.Stream) -> list[tuple[int, Packet]]:
    return [(0, stream.hello), *stream.rest]


@given(stream=strategies.streams(), sizes=strategies.chunk_sizes)
def test_packets_come_out_whatever_the_chunks(stream: strategies.Stream, sizes: list[int]) -> None:
    found = parse(stream, sizes)

    assert [(header.id, packet) for header, packet in found] == expected(stream)
    assert all(header.type is packet.type for header, packet in found)


@given(stream=strategies.streams(max_packets=4))
def test_packets_come_out_of_one_chunk_and_byte_by_byte(stream: strategies.Stream) -> None:
    wire = b"".join(stream.wire)

    assert parse(stream, [len(wire)]) == parse(stream, [1])


def test_packet_comes_out_with_its_last_byte() -> None:
    wire = encode_packet(BulkPacket(0x81, Status.SUCCESS, 3, 0, b"abc"), packet_id=7, caps=ALL_CAPS)
    parser = Parser(Side.HOST, own_caps=ALL_CAPS)
    parser.feed(HELLO)

    assert parser.feed(wire[:-1]) == []
    [(header, packet)] = parser.feed(wire[-1:] + wire[:20])

    assert header.id == 7
    assert packet == BulkPacket(0x81, Status.SUCCESS, 3, 0, b"abc")


def test_own_caps_may_be_told_after_the_hello_of_the_peer() -> None:
    parser = Parser(Side.GUEST)
    parser.feed(HELLO)
    assert parser.caps is None

    parser.own_caps = Cap.IDS_64BITS

    assert parser.own_caps == parser.caps == Cap.IDS_64BITS
    wire = encode_packet(Reset(), packet_id=1 << 40, caps=Cap.IDS_64BITS)
    [(header, packet)] = parser.feed(wire)
    assert (header.id, packet) == (1 << 40, Reset())


def test_own_caps_may_not_change_once_they_are_agreed() -> None:
    parser = Parser(Side.GUEST, own_caps=ALL_CAPS)
    parser.feed(HELLO)

    parser.own_caps = ALL_CAPS
    with pytest.raises(LocalProtocolError, match="own caps changed"):
        parser.own_caps = NO_CAPS


def test_parser_stays_broken_and_says_the_same() -> None:
    parser = Parser(Side.GUEST, own_caps=ALL_CAPS)
    wire = encode_packet(DeviceDisconnect(), packet_id=0, caps=ALL_CAPS)

    for chunk in (HELLO + wire, b"", HELLO):
        with pytest.raises(RemoteProtocolError, match="device_disconnect is not for a usb-guest"):
            parser.feed(chunk)


def run(reader: Parser | SpanTracker, data: bytes, sizes: list[int]) -> tuple[int, str]:
    """Feed until the end or a fault; return packets known until then, and the fault."""
    count = 0
    try:
        for chunk in strategies.chunked(data, sizes):
            count += len(reader.feed(chunk))
    except RemoteProtocolError as error:
        return count, str(error)
    return count, ""


@given(
    stream=strategies.streams(),
    place=st.floats(0, 1, exclude_max=True),
    value=st.integers(0, 255),
    sizes=strategies.chunk_sizes,
)
def test_parser_and_tracker_see_the_same_fault_whatever_the_chunks(
    stream: strategies.Stream, place: float, value: int, sizes: list[int]
) -> None:
    data = bytearray(b"".join(stream.wire))
    data[int(place * len(data))] = value

    faults = [
        run(reader(stream.sender, own_caps=stream.own_caps), bytes(data), chunks)
        for reader in (Parser, SpanTracker)
        for chunks in ([1], sizes, [len(data)])
    ]

    # What the tracker lets through must also be fit to be parsed.
    assert len({fault for _, fault in faults}) == 1
    by_byte, tracked_by_byte = faults[0][0], faults[3][0]
    # Of data packets at the end the tracker already knows the one that is not whole.
    assert tracked_by_byte - by_byte in (0, 1)


@given(data=st.binary(max_size=200), sizes=strategies.chunk_sizes)
def test_any_bytes_after_hello_parse_or_blame_the_peer(data: bytes, sizes: list[int]) -> None:
    parser = Parser(Side.HOST, own_caps=ALL_CAPS)

    run(parser, HELLO + data, sizes)
