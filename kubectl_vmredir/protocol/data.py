"""Data packets: the transfers themselves, the request as well as the answer.

Source: "USB Network Redirection protocol description version 0.7", usb_redir_control_packet
and following. In a request ``length`` is what the guest sends or wants, in the answer what it
became; ``status`` means something in answers only. ``data`` goes one way, that of the
endpoint: it has ``length`` bytes there and none in the other packet.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.protocol.body import pack
from kubectl_vmredir.protocol.constants import INPUT, Cap, PacketType, Side, Status
from kubectl_vmredir.protocol.layout import LAYOUTS

_ENDPOINT: Final = struct.Struct("<BBH")


@dataclass(frozen=True, slots=True)
class ControlPacket:
    """A control transfer.

    Attributes:
        endpoint: 0x00 for a transfer out, 0x80 for one in.
        request: bRequest of the setup packet.
        requesttype: bmRequestType.
        status: How it ended.
        value: wValue.
        index: wIndex.
        length: wLength; in the answer the bytes transferred.
        data: What is transferred.
    """

    type: ClassVar = PacketType.CONTROL_PACKET
    _WIRE: ClassVar = struct.Struct("<BBBBHHH")

    endpoint: int
    request: int
    requesttype: int
    status: Status
    value: int
    index: int
    length: int
    data: bytes = b""

    def encode(self, caps: Cap) -> bytes:
        """Encode the body.

        Raises:
            LocalProtocolError: If a field does not fit or the data has not ``length`` bytes.
        """
        _check_data(self.type, self.length, self.data)
        header = pack(
            self.type,
            self._WIRE,
            self.endpoint,
            self.request,
            self.requesttype,
            self.status,
            self.value,
            self.index,
            self.length,
        )
        return header + self.data

    @classmethod
    def decode(cls, body: bytes, caps: Cap) -> Self:
        """Decode a body.

        Raises:
            RemoteProtocolError: If it is too short, or the data has not ``length`` bytes.
        """
        values, data = _split(cls.type, cls._WIRE, body)
        endpoint, request, requesttype, status, value, index, length = values
        _blame_data(cls.type, length, data)
        return cls(endpoint, request, requesttype, Status(status), value, index, length, data)


@dataclass(frozen=True, slots=True)
class BulkPacket:
    """A bulk transfer.

    Attributes:
        endpoint: Its address.
        status: How it ended.
        length: In bytes; 16 bits of it where BULK_LENGTH_32BITS is not agreed.
        stream_id: Bulk stream, 0 without streams.
        data: What is transferred.
    """

    type: ClassVar = PacketType.BULK_PACKET
    _WIRE: ClassVar = struct.Struct("<BBHI")
    _WIRE_32BITS: ClassVar = struct.Struct("<BBHIH")

    endpoint: int
    status: Status
    length: int
    stream_id: int = 0
    data: bytes = b""

    def encode(self, caps: Cap) -> bytes:
        """Encode the body.

        Raises:
            LocalProtocolError: If a field does not fit or the data has not ``length`` bytes.
        """
        _check_data(self.type, self.length, self.data)
        if Cap.BULK_LENGTH_32BITS not in caps:
            values = (self.endpoint, self.status, self.length, self.stream_id)
            return pack(self.type, self._WIRE, *values) + self.data
        low, high = self.length & 0xFFFF, self.length >> 16
        values = (self.endpoint, self.status, low, self.stream_id)
        return pack(self.type, self._WIRE_32BITS, *values, high) + self.data

    @classmethod
    def decode(cls, body: bytes, caps: Cap) -> Self:
        """Decode a body.

        Raises:
            RemoteProtocolError: If it is too short or too long, or the data has not
                ``length`` bytes.
        """
        wire = cls._WIRE_32BITS if Cap.BULK_LENGTH_32BITS in caps else cls._WIRE
        (endpoint, status, low, stream_id, *high), data = _split(cls.type, wire, body)
        length = low | sum(high) << 16
        _blame_data(cls.type, length, data)
        return cls(endpoint, Status(status), length, stream_id, data)


@dataclass(frozen=True, slots=True)
class IsoPacket:
    """One packet of an iso stream; its id counts the packets of the stream."""

    type: ClassVar = PacketType.ISO_PACKET

    endpoint: int
    status: Status
    length: int
    data: bytes = b""

    def encode(self, caps: Cap) -> bytes:
        """Encode the body.

        Raises:
            LocalProtocolError: If a field does not fit or the data has not ``length`` bytes.
        """
        _check_data(self.type, self.length, self.data)
        return pack(self.type, _ENDPOINT, self.endpoint, self.status, self.length) + self.data

    @classmethod
    def decode(cls, body: bytes, caps: Cap) -> Self:
        """Decode a body.

        Raises:
            RemoteProtocolError: If it is too short, or the data has not ``length`` bytes.
        """
        (endpoint, status, length), data = _split(cls.type, _ENDPOINT, body)
        _blame_data(cls.type, length, data)
        return cls(endpoint, Status(status), length, data)


@dataclass(frozen=True, slots=True)
class InterruptPacket:
    """An interrupt transfer.

    In: unsolicited while receiving is started, the id counts. Out: request and answer.
    """

    type: ClassVar = PacketType.INTERRUPT_PACKET

    endpoint: int
    status: Status
    length: int
    data: bytes = b""

    def encode(self, caps: Cap) -> bytes:
        """Encode the body.

        Raises:
            LocalProtocolError: If a field does not fit or the data has not ``length`` bytes.
        """
        _check_data(self.type, self.length, self.data)
        return pack(self.type, _ENDPOINT, self.endpoint, self.status, self.length) + self.data

    @classmethod
    def decode(cls, body: bytes, caps: Cap) -> Self:
        """Decode a body.

        Raises:
            RemoteProtocolError: If it is too short, or the data has not ``length`` bytes.
        """
        (endpoint, status, length), data = _split(cls.type, _ENDPOINT, body)
        _blame_data(cls.type, length, data)
        return cls(endpoint, Status(status), length, data)


@dataclass(frozen=True, slots=True)
class BufferedBulkPacket:
    """Data that the usb-host read ahead from a bulk input; the id counts."""

    type: ClassVar = PacketType.BUFFERED_BULK_PACKET
    _WIRE: ClassVar = struct.Struct("<IIBB")

    stream_id: int
    length: int
    endpoint: int
    status: Status
    data: bytes = b""

    def encode(self, caps: Cap) -> bytes:
        """Encode the body.

        Raises:
            LocalProtocolError: If a field does not fit or the data has not ``length`` bytes.
        """
        _check_data(self.type, self.length, self.data)
        values = (self.stream_id, self.length, self.endpoint, self.status)
        return pack(self.type, self._WIRE, *values) + self.data

    @classmethod
    def decode(cls, body: bytes, caps: Cap) -> Self:
        """Decode a body.

        Raises:
            RemoteProtocolError: If it is too short or too long, or the data has not
                ``length`` bytes.
        """
        (stream_id, length, endpoint, status), data = _split(cls.type, cls._WIRE, body)
        _blame_data(cls.type, length, data)
        return cls(stream_id, length, endpoint, Status(status), data)


DataPacket = ControlPacket | BulkPacket | IsoPacket | InterruptPacket | BufferedBulkPacket


def read_transfer(packet_type: PacketType, head: bytes, caps: Cap) -> tuple[int, int]:
    """Return endpoint and length from the type-specific header of a data packet."""
    match packet_type:
        case PacketType.CONTROL_PACKET:
            endpoint, length = head[0], head[8:10]
        case PacketType.BULK_PACKET if Cap.BULK_LENGTH_32BITS in caps:
            endpoint, length = head[0], head[2:4] + head[8:10]
        case PacketType.BUFFERED_BULK_PACKET:
            endpoint, length = head[8], head[4:8]
        case _:
            endpoint, length = head[0], head[2:4]
    return endpoint, int.from_bytes(length, "little")


def transfer_fault(
    packet_type: PacketType, *, sender: Side, endpoint: int, length: int, tail: int
) -> str | None:
    """Return why this sender must not send such a data packet; None if it may.

    Args:
        packet_type: One of the data packets.
        sender: Who sends it.
        endpoint: Endpoint address.
        length: The length in the type-specific header, in bytes.
        tail: Bytes of data behind that header.
    """
    label = f"{packet_type.label} for endpoint {endpoint:#04x}"
    if length > LAYOUTS[packet_type].max_tail:
        return f"{label} with a length of {length} bytes"
    if bool(endpoint & INPUT) is (sender is Side.HOST):
        return None if tail == length else f"{label} with {tail} of {length} bytes of data"
    if tail:
        return f"{label} with data against its direction"
    one_way = packet_type in (PacketType.ISO_PACKET, PacketType.BUFFERED_BULK_PACKET) or (
        packet_type is PacketType.INTERRUPT_PACKET and sender is Side.GUEST
    )
    return f"{label} against its direction" if one_way else None


def _split(
    packet_type: PacketType, wire: struct.Struct, body: bytes
) -> tuple[tuple[int, ...], bytes]:
    """Split a body into the fields of its type-specific header and its data."""
    if len(body) < wire.size:
        raise RemoteProtocolError(f"{packet_type.label} of {len(body)} bytes")
    return wire.unpack_from(body), body[wire.size :]


def _data_fault(packet_type: PacketType, length: int, data: bytes) -> str | None:
    if length > LAYOUTS[packet_type].max_tail:
        return f"{packet_type.label} with a length of {length} bytes"
    if data and len(data) != length:
        return f"{packet_type.label} with {len(data)} of {length} bytes of data"
    return None


def _check_data(packet_type: PacketType, length: int, data: bytes) -> None:
    if fault := _data_fault(packet_type, length, data):
        raise LocalProtocolError(fault)


def _blame_data(packet_type: PacketType, length: int, data: bytes) -> None:
    if fault := _data_fault(packet_type, length, data):
        raise RemoteProtocolError(fault)
