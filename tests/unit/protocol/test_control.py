from __future__ import annotations

import pytest

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.protocol.constants import NO_CAPS, PacketType, Status
from kubectl_vmredir.protocol.control import (
    BulkReceivingStatus,
    ConfigurationStatus,
    InterruptReceivingStatus,
    SetConfiguration,
    StartBulkReceiving,
    StartInterruptReceiving,
    StopBulkReceiving,
    StopInterruptReceiving,
)
from kubectl_vmredir.protocol.layout import MAX_BULK_SIZE
from kubectl_vmredir.protocol.packets import Packet, decode_body


@pytest.mark.parametrize(
    ("packet", "body"),
    [
        (StartInterruptReceiving(0x01), "01"),
        (StopInterruptReceiving(0x01), "01"),
        # Alone in a read this is a log line of QEMU, with a byte behind it the VM aborts.
        (InterruptReceivingStatus(Status.SUCCESS, 0x00), "00 00"),
        (StartBulkReceiving(0, 512, 0x02, 1), "00000000 00020000 02 01"),
        (StopBulkReceiving(0, 0x02), "00000000 02"),
        (BulkReceivingStatus(0, 0x02, Status.SUCCESS), "00000000 02 00"),
    ],
    ids=lambda each: "" if isinstance(each, str) else each.type.label,
)
def test_receiving_is_for_input_endpoints_only(packet: Packet, body: str) -> None:
    fault = f"{packet.type.label} for output endpoint 0x0[0-2]"

    with pytest.raises(LocalProtocolError, match=fault):
        packet.encode(NO_CAPS)
    with pytest.raises(RemoteProtocolError, match=fault):
        decode_body(packet.type, bytes.fromhex(body), NO_CAPS)


def test_transfers_of_buffered_bulk_are_bounded() -> None:
    packet = StartBulkReceiving(0, MAX_BULK_SIZE + 1, 0x82, 1)

    with pytest.raises(LocalProtocolError, match="in transfers of 1048577 bytes"):
        packet.encode(NO_CAPS)
    with pytest.raises(RemoteProtocolError, match="in transfers of 1048577 bytes"):
        StartBulkReceiving.decode(bytes.fromhex("00000000 01001000 82 01"), NO_CAPS)


def test_field_out_of_range_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match="set_configuration with a field out of range"):
        SetConfiguration(256).encode(NO_CAPS)


def test_status_of_a_later_version_passes() -> None:
    packet = decode_body(PacketType.CONFIGURATION_STATUS, bytes([77, 1]), NO_CAPS)

    assert packet == ConfigurationStatus(Status(77), 1)
    assert packet.encode(NO_CAPS) == bytes([77, 1])
