"""Finds and checks the packets in a stream of usbredir, without copying their payload.

For the steady state of the data path: received chunks go on as they are, and a
:class:`Span` says what is in them. All that a receiver could reject is checked here; see
:mod:`layout` for the table of what may be sent, and :func:`transfer_fault` for the rule of
directions.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.protocol.constants import (
    INPUT,
    NO_CAPS,
    Cap,
    PacketType,
    Side,
    Status,
    agree,
)
from kubectl_vmredir.protocol.data import read_transfer, transfer_fault
from kubectl_vmredir.protocol.description import Hello
from kubectl_vmredir.protocol.layout import LAYOUTS, check_header
from kubectl_vmredir.protocol.packets import Header, decode_body

HEAD_SIZE: Final = 10
"""Bytes of a body that a span keeps: the longest type-specific header of a data packet."""

_START_32: Final = struct.Struct(f"<III{HEAD_SIZE}s")
_START_64: Final = struct.Struct(f"<IIQ{HEAD_SIZE}s")
_FIELDS: Final = struct.Struct("<BxH4xH")
"""Of a head: endpoint, and the two places of a length."""


@dataclass(slots=True)
class Span:
    """Where a packet lies in the stream, and what it is.

    Not frozen, although nobody may change it: that would double the time to make one.

    Attributes:
        type: Packet type.
        id: Packet id.
        length: Size of the body, in bytes.
        offset: Where its header starts, in bytes from the start of the stream.
        end: Where the next packet starts.
        use: Type and endpoint of a data packet, see :func:`use`; type of a control packet.
        size: The length in the type-specific header of a data packet, in bytes: how much it
            brings, or asks for, or says was taken; 0 for a control packet.
        head: First bytes of the body, :data:`HEAD_SIZE` at most.
        body: The whole body of a control packet; None for a data packet.
    """

    type: PacketType
    id: int
    length: int
    offset: int
    end: int
    use: int
    size: int
    head: bytes
    body: bytes | None

    @property
    def endpoint(self) -> int | None:
        """Endpoint address, None if this type has none."""
        at = LAYOUTS[self.type].endpoint_at
        return None if at is None else self.head[at]

    @property
    def status(self) -> Status | None:
        """Status, None if this type has none; in a request it means nothing."""
        at = LAYOUTS[self.type].status_at
        return None if at is None else Status(self.head[at])


class SpanTracker:
    """Follows the stream of one sender.

    What comes before a fault in the same chunk is not given out. After a fault the tracker
    stays broken: it cannot know where the next packet starts.

    Args:
        sender: Who sends the stream.
        own_caps: Capabilities in the hello of the other direction, if they are known yet.
    """

    def __init__(self, sender: Side, *, own_caps: Cap | None = None) -> None:
        self._sender = sender
        self._input_carries = sender is Side.HOST  # or else output does
        self._own_caps = own_caps
        self._sender_caps: Cap | None = None
        self._caps: Cap | None = None
        self._start = _START_32
        self._header_size = _START_32.size - HEAD_SIZE
        self._rows: dict[int, _Row] = {}
        self._partial = bytearray()  # the start of a packet, until its span can be made
        self._last_offset = 0  # of the last span
        self._skip = 0  # bytes of the last span's payload that are still to come
        self._offset = 0
        self._fault: str | None = None

    @property
    def own_caps(self) -> Cap | None:
        """Capabilities in the hello of the other direction; to be set before it is answered."""
        return self._own_caps

    @own_caps.setter
    def own_caps(self, own_caps: Cap) -> None:
        if self._caps is not None and own_caps != self._own_caps:
            raise LocalProtocolError("own caps changed after they were agreed")
        self._own_caps = own_caps
        self._agree()

    @property
    def caps(self) -> Cap | None:
        """The agreed capabilities; None until both hellos are known."""
        return self._caps

    @property
    def offset(self) -> int:
        """Bytes fed so far."""
        return self._offset

    @property
    def boundary(self) -> int:
        """Where the last whole packet ends, in bytes from the start of the stream."""
        return self._last_offset if self._skip else self._offset - len(self._partial)

    def feed(self, chunk: bytes | memoryview) -> list[Span]:
        """Take the next bytes of the stream and return the packets that became known.

        A data packet is known as soon as its header and head are there, a control packet
        when all of it is.

        Raises:
            RemoteProtocolError: If the sender broke the protocol, now or before.
        """
        if self._fault is not None:
            raise RemoteProtocolError(self._fault)
        spans: list[Span] = []
        size, offset, position = len(chunk), self._offset, self._skip
        while position < size:
            # The steady state is to step over data packets whose header and head are in the
            # chunk. The checks of transfer_fault() are written out, and all is in one place,
            # because calls would cost as much as the rest.
            start, header_size, input_carries = self._start, self._header_size, self._input_carries
            last = size - start.size if not self._partial else -1
            while position <= last:
                raw_type, length, packet_id, head = start.unpack_from(chunk, position)
                if (row := self._rows.get(raw_type)) is None:
                    break
                packet_type, inner_size, low_weight, high_weight, max_tail, two_way = row
                endpoint, low, high = _FIELDS.unpack(head)
                wanted = low * low_weight + high * high_weight
                carries = (endpoint >= INPUT) is input_carries
                tail = length - inner_size
                if wanted > max_tail or (tail != wanted if carries else tail or not two_way):
                    break
                if length < HEAD_SIZE:
                    head = head[:length]
                begin = offset + position
                position += header_size + length
                end = offset + position
                used = raw_type << 8 | endpoint
                spans.append(
                    Span(packet_type, packet_id, length, begin, end, used, wanted, head, None)
                )
            if position < size:
                position = self._step(chunk, position, spans)
        if spans:
            self._last_offset = spans[-1].offset
        self._skip = position - size
        self._offset = offset + size
        return spans

    def _step(self, chunk: bytes | memoryview, position: int, spans: list[Span]) -> int:
        """Take what is no whole data packet, or looks wrong; return where it or the chunk ends."""
        try:
            return self._assemble(chunk, position, spans)
        except RemoteProtocolError as error:
            self._fault = str(error)
            raise

    def _assemble(self, chunk: bytes | memoryview, position: int, spans: list[Span]) -> int:
        """Collect one packet which is a control packet, or lies across chunks."""
        offset = self._offset + position - len(self._partial)
        header_size = self._header_size
        position = self._collect(chunk, position, header_size)
        if len(self._partial) < header_size:
            return position
        header = Header.decode(
            bytes(self._partial[:header_size]), wide_ids=self._start is _START_64
        )
        self._check_turn(header.type)
        caps = self._caps or NO_CAPS
        check_header(header.type, header.length, sender=self._sender, caps=caps)
        known = min(header.length, HEAD_SIZE) if header.type.is_data else header.length
        position = self._collect(chunk, position, header_size + known)
        if len(self._partial) < header_size + known:
            return position
        body = bytes(self._partial[header_size:])
        self._partial.clear()
        endpoint = size = 0
        if header.type.is_data:
            endpoint, size = self._check_transfer(header, body, caps)
        else:
            packet = decode_body(header.type, body, caps)
            if isinstance(packet, Hello):
                self._sender_caps = packet.caps
                self._agree()
        spans.append(
            Span(
                header.type,
                header.id,
                header.length,
                offset,
                offset + header_size + header.length,
                use(header.type, endpoint),
                size,
                body[:HEAD_SIZE],
                None if header.type.is_data else body,
            )
        )
        return position + header.length - known

    def _collect(self, chunk: bytes | memoryview, position: int, wanted: int) -> int:
        """Move bytes to the partial packet until it has ``wanted``, as far as the chunk goes."""
        piece = chunk[position : position + max(wanted - len(self._partial), 0)]
        self._partial += piece
        return position + len(piece)

    def _check_turn(self, packet_type: PacketType) -> None:
        """Check that hello comes first, and once."""
        if packet_type is PacketType.HELLO:
            if self._sender_caps is not None:
                raise RemoteProtocolError("second hello")
        elif self._sender_caps is None:
            raise RemoteProtocolError(f"{packet_type.label} before hello")
        elif self._caps is None:
            raise RemoteProtocolError(f"{packet_type.label} before it had a hello from us")

    def _check_transfer(self, header: Header, head: bytes, caps: Cap) -> tuple[int, int]:
        """Check a data packet, and return its endpoint and the length of its transfer."""
        endpoint, length = read_transfer(header.type, head, caps)
        fault = transfer_fault(
            header.type,
            sender=self._sender,
            endpoint=endpoint,
            length=length,
            tail=header.length - LAYOUTS[header.type].header_size(caps),
        )
        if fault is not None:
            raise RemoteProtocolError(fault)
        return endpoint, length

    def _agree(self) -> None:
        """Choose the layouts once both hellos are known."""
        if self._own_caps is None or self._sender_caps is None:
            return
        self._caps = agree(self._own_caps, self._sender_caps)
        if Cap.IDS_64BITS in self._caps:
            self._start = _START_64
        self._header_size = self._start.size - HEAD_SIZE
        self._rows = _rows(self._sender, self._caps)


def use(packet_type: PacketType, address: int) -> int:
    """Return one number for a packet type and an endpoint: quick to look up."""
    return packet_type << 8 | address


_Row = tuple[PacketType, int, int, int, int, bool]
"""How the fast path reads one type of data packet.

Type, size of the type-specific header, weights of the two numbers in :data:`_FIELDS` that may
be the length or a half of it, most bytes of data, and whether there is an answer without data.
A plain tuple, because taking it apart is the cheapest look-up there is.
"""


def _rows(sender: Side, caps: Cap) -> dict[int, _Row]:
    """Return the rows by packet type; buffered bulk is laid out too differently to have one."""
    wide = Cap.BULK_LENGTH_32BITS in caps
    weights = {
        PacketType.CONTROL_PACKET: (0, 1),
        PacketType.BULK_PACKET: (1, 1 << 16 if wide else 0),
        PacketType.ISO_PACKET: (1, 0),
        PacketType.INTERRUPT_PACKET: (1, 0),
    }
    two_way = {PacketType.CONTROL_PACKET, PacketType.BULK_PACKET}
    if sender is Side.HOST:
        two_way.add(PacketType.INTERRUPT_PACKET)
    return {
        packet_type: (
            packet_type,
            LAYOUTS[packet_type].header_size(caps),
            low_weight,
            high_weight,
            LAYOUTS[packet_type].max_tail,
            packet_type in two_way,
        )
        for packet_type, (low_weight, high_weight) in weights.items()
    }
