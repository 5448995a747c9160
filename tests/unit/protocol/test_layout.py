from __future__ import annotations

import pytest

from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.protocol.constants import ALL_CAPS, NO_CAPS, Cap, PacketType, Side
from kubectl_vmredir.protocol.layout import (
    LAYOUTS,
    MAX_BULK_SIZE,
    MAX_FILTER_SIZE,
    check_header,
    senders,
)

# From "This packet can be send by ..." in each section of the protocol description.
FROM_HOST = {
    PacketType.DEVICE_CONNECT,
    PacketType.DEVICE_DISCONNECT,
    PacketType.INTERFACE_INFO,
    PacketType.EP_INFO,
    PacketType.CONFIGURATION_STATUS,
    PacketType.ALT_SETTING_STATUS,
    PacketType.ISO_STREAM_STATUS,
    PacketType.INTERRUPT_RECEIVING_STATUS,
    PacketType.BULK_STREAMS_STATUS,
    PacketType.BULK_RECEIVING_STATUS,
    PacketType.BUFFERED_BULK_PACKET,
}
FROM_BOTH = {
    PacketType.HELLO,
    PacketType.FILTER_FILTER,
    PacketType.CONTROL_PACKET,
    PacketType.BULK_PACKET,
    PacketType.ISO_PACKET,
    PacketType.INTERRUPT_PACKET,
}


@pytest.mark.parametrize("packet_type", PacketType, ids=lambda each: each.label)
def test_senders_of_each_type(packet_type: PacketType) -> None:
    expected = {Side.GUEST}
    if packet_type in FROM_HOST:
        expected = {Side.HOST}
    elif packet_type in FROM_BOTH:
        expected = {Side.HOST, Side.GUEST}

    assert senders(packet_type) == expected


def test_every_type_has_a_layout() -> None:
    assert set(LAYOUTS) == set(PacketType)


@pytest.mark.parametrize("packet_type", PacketType, ids=lambda each: each.label)
@pytest.mark.parametrize("side", Side)
def test_a_type_is_refused_from_the_side_that_must_not_send_it(
    packet_type: PacketType, side: Side
) -> None:
    length = LAYOUTS[packet_type].header_size(ALL_CAPS)
    if side in senders(packet_type):
        check_header(packet_type, length, sender=side, caps=ALL_CAPS)
        return

    with pytest.raises(RemoteProtocolError, match=f"not for a {side.value} to send"):
        check_header(packet_type, length, sender=side, caps=ALL_CAPS)


@pytest.mark.parametrize(
    ("packet_type", "cap"),
    [
        (PacketType.FILTER_REJECT, Cap.FILTER),
        (PacketType.FILTER_FILTER, Cap.FILTER),
        (PacketType.DEVICE_DISCONNECT_ACK, Cap.DEVICE_DISCONNECT_ACK),
        (PacketType.START_BULK_RECEIVING, Cap.BULK_RECEIVING),
        (PacketType.STOP_BULK_RECEIVING, Cap.BULK_RECEIVING),
    ],
)
def test_a_type_is_refused_without_its_cap(packet_type: PacketType, cap: Cap) -> None:
    length = LAYOUTS[packet_type].header_size(ALL_CAPS)

    with pytest.raises(RemoteProtocolError, match=f"{packet_type.label} without cap {cap.name}"):
        check_header(packet_type, length, sender=Side.GUEST, caps=ALL_CAPS & ~cap)

    check_header(packet_type, length, sender=Side.GUEST, caps=cap)


@pytest.mark.parametrize(
    ("packet_type", "sender", "caps", "least", "most"),
    [
        (PacketType.HELLO, Side.GUEST, NO_CAPS, 64, 128),
        (PacketType.DEVICE_CONNECT, Side.HOST, NO_CAPS, 8, 8),
        (PacketType.DEVICE_CONNECT, Side.HOST, Cap.CONNECT_DEVICE_VERSION, 10, 10),
        (PacketType.EP_INFO, Side.HOST, NO_CAPS, 96, 96),
        (PacketType.EP_INFO, Side.HOST, Cap.EP_INFO_MAX_PACKET_SIZE, 160, 160),
        (PacketType.EP_INFO, Side.HOST, ALL_CAPS, 288, 288),
        (PacketType.FILTER_FILTER, Side.GUEST, Cap.FILTER, 1, MAX_FILTER_SIZE),
        (PacketType.CONTROL_PACKET, Side.GUEST, ALL_CAPS, 10, 10 + 0xFFFF),
        (PacketType.BULK_PACKET, Side.GUEST, NO_CAPS, 8, 8 + MAX_BULK_SIZE),
        (PacketType.BULK_PACKET, Side.GUEST, Cap.BULK_LENGTH_32BITS, 10, 10 + MAX_BULK_SIZE),
        (PacketType.ISO_PACKET, Side.HOST, ALL_CAPS, 4, 4 + 0xFFFF),
        (PacketType.INTERRUPT_PACKET, Side.HOST, ALL_CAPS, 4, 4 + 0xFFFF),
        (PacketType.BUFFERED_BULK_PACKET, Side.HOST, ALL_CAPS, 10, 10 + MAX_BULK_SIZE),
    ],
)
def test_lengths_are_bounded(
    packet_type: PacketType, sender: Side, caps: Cap, least: int, most: int
) -> None:
    check_header(packet_type, least, sender=sender, caps=caps)
    check_header(packet_type, most, sender=sender, caps=caps)
    for length in (least - 1, most + 1):
        with pytest.raises(RemoteProtocolError, match=f"{packet_type.label} of {length} bytes"):
            check_header(packet_type, length, sender=sender, caps=caps)
