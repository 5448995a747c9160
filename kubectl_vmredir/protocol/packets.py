"""Whole packets: the header that starts each of them, and the union of all types.

Source: "USB Network Redirection protocol description version 0.7" and usbredirproto.h. All
integers are little-endian and all structs are packed. The types are in :mod:`description`,
:mod:`control` and :mod:`data`, the table of who may send what in :mod:`layout`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self, get_args

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.protocol.constants import Cap, PacketType
from kubectl_vmredir.protocol.control import (
    AllocBulkStreams,
    AltSettingStatus,
    BulkReceivingStatus,
    BulkStreamsStatus,
    CancelDataPacket,
    ConfigurationStatus,
    DeviceDisconnect,
    DeviceDisconnectAck,
    FilterReject,
    FreeBulkStreams,
    GetAltSetting,
    GetConfiguration,
    InterruptReceivingStatus,
    IsoStreamStatus,
    Reset,
    SetAltSetting,
    SetConfiguration,
    StartBulkReceiving,
    StartInterruptReceiving,
    StartIsoStream,
    StopBulkReceiving,
    StopInterruptReceiving,
    StopIsoStream,
)
from kubectl_vmredir.protocol.data import DataPacket
from kubectl_vmredir.protocol.description import (
    DeviceConnect,
    EpInfo,
    FilterFilter,
    Hello,
    InterfaceInfo,
)
from kubectl_vmredir.protocol.layout import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER_32: Final = struct.Struct("<III")
_HEADER_64: Final = struct.Struct("<IIQ")

Packet = (
    Hello
    | DeviceConnect
    | DeviceDisconnect
    | Reset
    | InterfaceInfo
    | EpInfo
    | SetConfiguration
    | GetConfiguration
    | ConfigurationStatus
    | SetAltSetting
    | GetAltSetting
    | AltSettingStatus
    | StartIsoStream
    | StopIsoStream
    | IsoStreamStatus
    | StartInterruptReceiving
    | StopInterruptReceiving
    | InterruptReceivingStatus
    | AllocBulkStreams
    | FreeBulkStreams
    | BulkStreamsStatus
    | CancelDataPacket
    | FilterReject
    | FilterFilter
    | DeviceDisconnectAck
    | StartBulkReceiving
    | StopBulkReceiving
    | BulkReceivingStatus
    | DataPacket
)

PACKETS: Final[Mapping[PacketType, type[Packet]]] = MappingProxyType(
    {packet.type: packet for packet in get_args(Packet)}
)
"""The class of each packet type."""


@dataclass(frozen=True, slots=True)
class Header:
    """usb_redir_header, which starts every packet.

    Attributes:
        type: Packet type.
        length: Size in bytes of what follows: type-specific header, then data.
        id: Chosen by the usb-guest and echoed by the usb-host; a counter in the packets of a
            stream; 0 in other unsolicited packets.
    """

    type: PacketType
    length: int
    id: int = 0

    @staticmethod
    def size(*, wide_ids: bool) -> int:
        """Return the size of an encoded header, in bytes."""
        return (_HEADER_64 if wide_ids else _HEADER_32).size

    def encode(self, *, wide_ids: bool) -> bytes:
        """Encode the header.

        Args:
            wide_ids: Whether both sides have IDS_64BITS. Always False for HELLO, which is
                sent before the peer's capabilities are known.

        Raises:
            LocalProtocolError: If a field does not fit.
        """
        layout = _HEADER_64 if wide_ids else _HEADER_32
        try:
            return layout.pack(self.type, self.length, self.id)
        except struct.error as exc:
            raise LocalProtocolError(f"{self} does not fit in {layout.size} bytes") from exc

    @classmethod
    def decode(cls, data: bytes, *, wide_ids: bool) -> Self:
        """Decode a header from exactly ``Header.size(wide_ids=...)`` bytes.

        Raises:
            RemoteProtocolError: If the type is unknown.
        """
        raw_type, length, packet_id = (_HEADER_64 if wide_ids else _HEADER_32).unpack(data)
        try:
            return cls(PacketType(raw_type), length, packet_id)
        except ValueError as exc:
            raise RemoteProtocolError(f"unknown packet type {raw_type}") from exc


def encode_packet(packet: Packet, *, packet_id: int, caps: Cap) -> bytes:
    """Encode a whole packet.

    Args:
        packet: The packet.
        packet_id: Its id.
        caps: The agreed capabilities; a hello does not depend on them.

    Raises:
        LocalProtocolError: If it needs a capability that was not agreed, or does not fit.
    """
    if (needed := LAYOUTS[packet.type].needs) not in caps:
        raise LocalProtocolError(f"{packet.type.label} without cap {needed.name}")
    body = packet.encode(caps)
    wide_ids = Cap.IDS_64BITS in caps and packet.type is not PacketType.HELLO
    return Header(packet.type, len(body), packet_id).encode(wide_ids=wide_ids) + body


def decode_body(packet_type: PacketType, body: bytes, caps: Cap) -> Packet:
    """Decode the body of a packet.

    Args:
        packet_type: Type in its header.
        body: All that follows the header.
        caps: The agreed capabilities.

    Raises:
        RemoteProtocolError: If it is not a body of this type.
    """
    return PACKETS[packet_type].decode(body, caps)
