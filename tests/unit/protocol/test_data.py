from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    NO_CAPS,
    Cap,
    PacketType,
    Side,
    Status,
    agree,
)
from kubectl_vmredir.protocol.data import (
    BufferedBulkPacket,
    BulkPacket,
    ControlPacket,
    DataPacket,
    InterruptPacket,
    IsoPacket,
    read_transfer,
    transfer_fault,
)
from kubectl_vmredir.protocol.layout import LAYOUTS, MAX_BULK_SIZE
from kubectl_vmredir.protocol.packets import Packet, decode_body
from tests.support import protocol_strategies as strategies

OK = Status.SUCCESS
BULK = PacketType.BULK_PACKET
ISO = PacketType.ISO_PACKET
INTERRUPT = PacketType.INTERRUPT_PACKET
BUFFERED = PacketType.BUFFERED_BULK_PACKET


@pytest.mark.parametrize(
    ("packet", "body"),
    [
        (ControlPacket(0x80, 6, 0x80, OK, 0, 0, 2, b"abc"), "80 06 80 00 0000 0000 0200 616263"),
        (BulkPacket(0x81, OK, 2, 0, b"abc"), "81 00 0200 00000000 616263"),
        (IsoPacket(0x81, OK, 2, b"abc"), "81 00 0200 616263"),
        (InterruptPacket(0x81, OK, 2, b"abc"), "81 00 0200 616263"),
        (BufferedBulkPacket(0, 2, 0x81, OK, b"abc"), "00000000 02000000 81 00 616263"),
    ],
    ids=lambda each: "" if isinstance(each, str) else each.type.label,
)
def test_data_has_the_length_that_the_packet_says(packet: Packet, body: str) -> None:
    fault = f"{packet.type.label} with 3 of 2 bytes of data"

    with pytest.raises(LocalProtocolError, match=fault):
        packet.encode(NO_CAPS)
    with pytest.raises(RemoteProtocolError, match=fault):
        decode_body(packet.type, bytes.fromhex(body), NO_CAPS)


def test_length_over_16_bits_needs_its_cap() -> None:
    packet = BulkPacket(0x81, OK, 0x1_0000)

    with pytest.raises(LocalProtocolError, match="bulk_packet with a field out of range"):
        packet.encode(NO_CAPS)
    assert BulkPacket.decode(packet.encode(ALL_CAPS), ALL_CAPS) == packet


@pytest.mark.parametrize(
    ("packet", "body"),
    [
        (BulkPacket(0x81, OK, MAX_BULK_SIZE + 1), "81 00 0100 00000000 1000"),
        (BufferedBulkPacket(0, MAX_BULK_SIZE + 1, 0x81, OK), "00000000 01001000 81 00"),
    ],
    ids=["bulk", "buffered-bulk"],
)
def test_bulk_length_is_bounded(packet: Packet, body: str) -> None:
    fault = f"{packet.type.label} with a length of 1048577 bytes"

    with pytest.raises(LocalProtocolError, match=fault):
        packet.encode(ALL_CAPS)
    with pytest.raises(RemoteProtocolError, match=fault):
        decode_body(packet.type, bytes.fromhex(body), ALL_CAPS)


# Who sends what in which direction, from the sections of the five data packets.
@pytest.mark.parametrize(
    ("packet_type", "sender", "endpoint", "length", "tail", "fault"),
    [
        (BULK, Side.GUEST, 0x02, 5, 5, None),
        (BULK, Side.GUEST, 0x02, 5, 0, "0 of 5 bytes of data"),
        (BULK, Side.GUEST, 0x82, 5, 0, None),
        (BULK, Side.GUEST, 0x82, 5, 5, "data against its direction"),
        (BULK, Side.HOST, 0x82, 5, 5, None),
        (BULK, Side.HOST, 0x82, 5, 4, "4 of 5 bytes of data"),
        (BULK, Side.HOST, 0x02, 5, 0, None),
        (BULK, Side.HOST, 0x02, 5, 5, "data against its direction"),
        (BULK, Side.GUEST, 0x82, MAX_BULK_SIZE + 1, 0, "a length of 1048577 bytes"),
        (PacketType.CONTROL_PACKET, Side.GUEST, 0x80, 5, 0, None),
        (PacketType.CONTROL_PACKET, Side.HOST, 0x80, 5, 5, None),
        (ISO, Side.GUEST, 0x02, 5, 5, None),
        (ISO, Side.GUEST, 0x82, 0, 0, "against its direction"),
        (ISO, Side.HOST, 0x82, 5, 5, None),
        (ISO, Side.HOST, 0x02, 0, 0, "against its direction"),
        (INTERRUPT, Side.GUEST, 0x02, 5, 5, None),
        (INTERRUPT, Side.GUEST, 0x82, 5, 0, "against its direction"),
        (INTERRUPT, Side.HOST, 0x82, 5, 5, None),
        (INTERRUPT, Side.HOST, 0x02, 5, 0, None),
        (BUFFERED, Side.HOST, 0x82, 5, 5, None),
        (BUFFERED, Side.HOST, 0x02, 0, 0, "against its direction"),
    ],
)
def test_data_goes_the_way_of_the_endpoint(
    packet_type: PacketType, sender: Side, endpoint: int, length: int, tail: int, fault: str | None
) -> None:
    found = transfer_fault(packet_type, sender=sender, endpoint=endpoint, length=length, tail=tail)

    if fault is None:
        assert found is None
    else:
        assert found is not None
        assert found.startswith(f"{packet_type.label} for endpoint {endpoint:#04x} ")
        assert found.endswith(fault)


@given(data=st.data(), sender=st.sampled_from(Side), caps=strategies.caps)
def test_endpoint_and_length_are_read_from_the_head(
    data: st.DataObject, sender: Side, caps: Cap
) -> None:
    caps = agree(caps, caps)
    packet = data.draw(
        strategies.packets(sender, caps).filter(lambda each: each.type.is_data), label="packet"
    )
    assert isinstance(packet, DataPacket)
    head = packet.encode(caps)[:10]

    endpoint, length = read_transfer(packet.type, head, caps)

    assert (endpoint, length) == (packet.endpoint, packet.length)
    layout = LAYOUTS[packet.type]
    tail = len(packet.data)
    assert layout.header_size(caps) + tail == len(packet.encode(caps))
    assert (
        transfer_fault(packet.type, sender=sender, endpoint=endpoint, length=length, tail=tail)
        is None
    )
