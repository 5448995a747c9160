"""A VM that wants to break the usb-host: what it sends.

Its right packets get deep into the usb-host; its wrong ones break one rule each, by construction,
or are right ones with a bit flipped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Final

from kubectl_vmredir.continuity.ledger import MAX_IN_FLIGHT_BYTES, MAX_OPEN
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    INPUT,
    NO_CAPS,
    Cap,
    PacketType,
    Status,
    TransferType,
    endpoint_address,
    endpoint_index,
)
from kubectl_vmredir.protocol.control import (
    AllocBulkStreams,
    CancelDataPacket,
    ConfigurationStatus,
    DeviceDisconnect,
    DeviceDisconnectAck,
    FilterReject,
    FreeBulkStreams,
    GetAltSetting,
    GetConfiguration,
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
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket, InterruptPacket, IsoPacket
from kubectl_vmredir.protocol.description import EpInfo, Hello, InterfaceInfo
from kubectl_vmredir.protocol.layout import MAX_BULK_SIZE
from kubectl_vmredir.protocol.packets import Packet, encode_packet

CAPS: Final = ALL_CAPS & ~Cap.FILTER
"""What the VM announces: there must be something that it must not do without a cap."""

OK: Final = Status.SUCCESS


class Vm:
    """Draws packets.

    Args:
        random: Chooses.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._ids = 0
        self._endpoints: dict[int, TransferType] = {}
        self._faults: tuple[Callable[[], bytes], ...] = (
            self._unknown_type, self._not_for_a_guest, self._without_cap, self._wrong_size,
            self._second_hello, self._too_long, self._too_little_data, self._data_for_input,
            self._against_direction, self._no_endpoint, self._output_endpoint,
            self._two_directions, self._transfers_of_nothing, self._transfers_too_long,
            self._ack_of_nothing, self._garbage, self._flipped_bit,
        )  # fmt: skip
        self._floods = (self._many_requests, self._many_bytes)
        self._deck: list[Callable[[], bytes]] = []

    def learn(self, ep_info: EpInfo) -> None:
        """Take note of what the device is like."""
        self._endpoints = {
            endpoint_address(index): endpoint.type
            for index, endpoint in enumerate(ep_info.endpoints)
            if endpoint.type is not TransferType.INVALID
        }

    def right(self) -> bytes:
        """Return a packet that the device must get to see."""
        return self._encode(self._right())

    def wrong(self) -> bytes:
        """Return what it must not; all kinds come again and again, floods less often."""
        if not self._deck:
            self._deck = [*self._faults * 4, *self._floods]
            self._random.shuffle(self._deck)
        return self._deck.pop()()

    # -- right packets ------------------------------------------------------------------------

    def _right(self) -> Packet:
        random = self._random
        number = random.randrange(16)
        choices: list[tuple[float, Callable[[], Packet]]] = [
            (10, self._control),
            (2, CancelDataPacket),
            (0.1, Reset),
            (1, GetConfiguration),
            (0.1, partial(SetConfiguration, 1)),
            (0.5, partial(GetAltSetting, number)),
            (0.1, partial(SetAltSetting, number, random.randrange(3))),
            (0.3, partial(StopInterruptReceiving, INPUT | number)),
            (0.3, partial(StopBulkReceiving, 0, INPUT | number)),
            (0.3, partial(StopIsoStream, random.choice((number, INPUT | number)))),
        ]
        for address, transfer_type in self._endpoints.items():
            choices += self._for_endpoint(address, transfer_type)
        weights, makers = zip(*choices, strict=True)
        maker: Callable[[], Packet] = random.choices(makers, weights)[0]
        return maker()

    def _for_endpoint(
        self, address: int, transfer_type: TransferType
    ) -> Iterator[tuple[float, Callable[[], Packet]]]:
        is_input = bool(address & INPUT)
        match transfer_type:
            case TransferType.BULK:
                mask = 1 << endpoint_index(address)
                yield 10, partial(self._bulk, address)
                yield 0.2, partial(AllocBulkStreams, mask, 4)
                yield 0.2, partial(FreeBulkStreams, mask)
                if is_input:
                    yield 0.3, partial(StartBulkReceiving, 0, 512, address, 4)
            case TransferType.INTERRUPT if is_input:
                yield 2, partial(StartInterruptReceiving, address)
            case TransferType.INTERRUPT:
                yield 2, partial(InterruptPacket, address, OK, 8, bytes(8))
            case TransferType.ISO:
                yield 1, partial(StartIsoStream, address, 8, 3)
                if not is_input:
                    yield 3, partial(IsoPacket, address, OK, 192, bytes(192))
            case TransferType.CONTROL | TransferType.INVALID:
                pass

    def _control(self) -> ControlPacket:
        random = self._random
        endpoint = random.choice((0, INPUT))
        size = random.choice((0, 1, 8, 18, 64, 255, 4096, 0xFFFF))
        data = b"" if endpoint else random.randbytes(min(size, 300))
        return ControlPacket(
            endpoint=endpoint,
            request=random.choice((0, 1, 6, 8, 10, random.randrange(256))),
            requesttype=endpoint | random.choice((0, 1, 2, 0x21, 0x40, random.randrange(128))),
            status=OK,
            value=random.choice((0, 0x100, 0x200, 0x300, random.randrange(1 << 16))),
            index=random.choice((0, 1, 0x409, random.randrange(1 << 16))),
            length=size if endpoint else len(data),
            data=data,
        )

    def _bulk(self, address: int) -> BulkPacket:
        size = self._random.choice((0, 13, 31, 512, 513, 4096, 65536))
        data = b"" if address & INPUT else self._random.randbytes(size)
        return BulkPacket(address, OK, size, 0, data)

    # -- wrong ones ---------------------------------------------------------------------------

    def _unknown_type(self) -> bytes:
        known = {packet_type.value for packet_type in PacketType}
        raw = self._random.choice([number for number in range(300) if number not in known])
        return self._raw(raw, self._random.randbytes(self._random.randrange(20)))

    def _not_for_a_guest(self) -> bytes:
        packet: Packet = self._random.choice(
            (DeviceDisconnect(), ConfigurationStatus(OK, 1), InterfaceInfo(()))
        )
        return self._encode(packet)

    def _without_cap(self) -> bytes:
        return self._encode(FilterReject())

    def _wrong_size(self) -> bytes:
        packet_type = self._random.choice((PacketType.RESET, PacketType.SET_CONFIGURATION))
        return self._raw(packet_type, self._random.randbytes(self._random.randrange(2, 30)))

    def _second_hello(self) -> bytes:
        return encode_packet(Hello("again", CAPS), packet_id=0, caps=NO_CAPS)

    def _too_long(self) -> bytes:
        size = MAX_BULK_SIZE + self._random.randrange(1, 1 << 30)
        return self._bulk_head(INPUT | 1, size, b"")

    def _too_little_data(self) -> bytes:
        return self._bulk_head(2, 512, self._random.randbytes(511))

    def _data_for_input(self) -> bytes:
        return self._bulk_head(INPUT | 1, 16, bytes(16))

    def _against_direction(self) -> bytes:
        packet_type = self._random.choice((PacketType.ISO_PACKET, PacketType.INTERRUPT_PACKET))
        return self._raw(packet_type, struct.pack("<BBH", INPUT | 1, 0, 0))

    def _no_endpoint(self) -> bytes:
        free = [address for address in range(1, 16) if address not in self._endpoints]
        address = self._random.choice(free)
        packet: Packet = self._random.choice(
            (
                BulkPacket(address, OK, 3, 0, b"abc"),
                InterruptPacket(address, OK, 3, b"abc"),
                StartIsoStream(address, 8, 3),
                BulkPacket(0, OK, 3, 0, b"abc"),  # there is one, of another type
            )
        )
        return self._encode(packet)

    def _output_endpoint(self) -> bytes:
        return self._raw(PacketType.START_INTERRUPT_RECEIVING, b"\x01")

    def _two_directions(self) -> bytes:
        body = struct.pack("<BBBBHHH", INPUT, 6, 0x21, 0, 0x100, 0, 18)
        return self._raw(PacketType.CONTROL_PACKET, body)

    def _transfers_of_nothing(self) -> bytes:
        return self._raw(PacketType.START_BULK_RECEIVING, struct.pack("<IIBB", 0, 0, 0x81, 4))

    def _transfers_too_long(self) -> bytes:
        size = MAX_BULK_SIZE + 1
        return self._raw(PacketType.START_BULK_RECEIVING, struct.pack("<IIBB", 0, size, 0x81, 4))

    def _ack_of_nothing(self) -> bytes:
        return self._encode(DeviceDisconnectAck())

    def _garbage(self) -> bytes:
        return self._random.randbytes(self._random.randrange(1, 200))

    def _flipped_bit(self) -> bytes:
        packet = bytearray(self.right())
        bit = self._random.randrange(8 * min(len(packet), 32))
        packet[bit // 8] ^= 1 << bit % 8
        return bytes(packet)

    def _many_requests(self) -> bytes:
        return b"".join(self._bulk_head(self._bulk_input(), 1, b"") for _ in range(MAX_OPEN + 1))

    def _many_bytes(self) -> bytes:
        count = MAX_IN_FLIGHT_BYTES // MAX_BULK_SIZE + 1
        return b"".join(
            self._bulk_head(self._bulk_input(), MAX_BULK_SIZE, b"") for _ in range(count)
        )

    # -- bytes --------------------------------------------------------------------------------

    def _of_type(self, wanted: TransferType) -> list[int]:
        return [address for address, kind in self._endpoints.items() if kind is wanted]

    def _bulk_input(self) -> int:
        return next((a for a in self._of_type(TransferType.BULK) if a & INPUT), INPUT | 1)

    def _bulk_head(self, address: int, size: int, data: bytes) -> bytes:
        head = struct.pack("<BBHIH", address, 0, size & 0xFFFF, 0, size >> 16)
        return self._raw(PacketType.BULK_PACKET, head + data)

    def _raw(self, packet_type: int, body: bytes) -> bytes:
        return struct.pack("<IIQ", packet_type, len(body), self._next_id()) + body

    def _encode(self, packet: Packet) -> bytes:
        return encode_packet(packet, packet_id=self._next_id(), caps=ALL_CAPS)

    def _next_id(self) -> int:
        if self._random.random() < 0.05:
            return self._random.randrange(self._ids + 1)  # used before, perhaps still in flight
        self._ids += 1
        return self._ids
