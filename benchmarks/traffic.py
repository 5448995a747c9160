"""What the two ends of a benchmark say to each other, encoded before the clock starts.

The far end is a usb-guest that keeps bulk transfers in flight, the near end a usb-host that
answers them. Both send bytes which lie ready, so that neither is what limits the path between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.model import UsbClass
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    INPUT,
    NO_CAPS,
    Status,
    TransferType,
    UsbSpeed,
    endpoint_address,
)
from kubectl_vmredir.protocol.data import BulkPacket
from kubectl_vmredir.protocol.description import (
    DeviceConnect,
    Endpoint,
    EpInfo,
    Hello,
    Interface,
    InterfaceInfo,
)
from kubectl_vmredir.protocol.packets import encode_packet

if TYPE_CHECKING:
    from collections.abc import Sequence

BULK_SIZE: Final = 64 << 10
SMALL_SIZE: Final = 512

_BULK_IN: Final = 0x81
_BULK_OUT: Final = 0x02
_BULK_ENDPOINTS: Final = frozenset({_BULK_IN, _BULK_OUT})
_FILLER: Final = b"\xa5"


@dataclass(frozen=True, slots=True)
class Load:
    """A kind of traffic.

    Attributes:
        name: For the command line and for people.
        endpoint: Which way the data goes.
        size: Data of one transfer, in bytes.
        in_flight: Transfers that the guest keeps going.
    """

    name: str
    endpoint: int
    size: int
    in_flight: int

    @property
    def requests(self) -> Sequence[bytes]:
        """What the guest sends, by packet id; ids are used again, as QEMU does."""
        carries = not self.endpoint & INPUT
        return [self._packet(packet_id, carries=carries) for packet_id in range(self.in_flight)]

    @property
    def answers(self) -> Sequence[bytes]:
        """What the usb-host sends for each of the requests."""
        carries = bool(self.endpoint & INPUT)
        return [self._packet(packet_id, carries=carries) for packet_id in range(self.in_flight)]

    def _packet(self, packet_id: int, *, carries: bool) -> bytes:
        data = _FILLER * self.size if carries else b""
        packet = BulkPacket(self.endpoint, Status.SUCCESS, self.size, data=data)
        return encode_packet(packet, packet_id=packet_id, caps=ALL_CAPS)


FROM_DEVICE: Final = Load("from-device", _BULK_IN, BULK_SIZE, 16)
TO_DEVICE: Final = Load("to-device", _BULK_OUT, BULK_SIZE, 16)
ROUND_TRIP: Final = Load("round-trip", _BULK_IN, SMALL_SIZE, 1)
LOADS: Final = (FROM_DEVICE, TO_DEVICE, ROUND_TRIP)
PACED: Final = Load("paced", _BULK_IN, SMALL_SIZE, 128)
"""Asked for by the clock, not when the answer before has come; in flight is what may be late."""


def hello(version: str) -> bytes:
    """Return the first packet of either side."""
    return encode_packet(Hello(version, ALL_CAPS), packet_id=0, caps=NO_CAPS)


def introduction() -> bytes:
    """Return what a usb-host says once the hellos are exchanged: a device with bulk endpoints."""
    endpoints = [_endpoint(endpoint_address(index)) for index in range(32)]
    packets = (
        InterfaceInfo((Interface(0, UsbClass(8, 6, 80)),)),
        EpInfo(tuple(endpoints)),
        DeviceConnect(UsbSpeed.SUPER, 0, 0, 0, 0x1209, 0x0001),
    )
    return b"".join(encode_packet(packet, packet_id=0, caps=ALL_CAPS) for packet in packets)


def _endpoint(address: int) -> Endpoint:
    if address & ~INPUT == 0:
        return Endpoint(TransferType.CONTROL, 0, 0, 64, 0)
    if address in _BULK_ENDPOINTS:
        return Endpoint(TransferType.BULK, 0, 0, 1024, 0)
    return Endpoint()


class Ring:
    """Blocks of one size that are sent over and over, in order, without a copy.

    Args:
        blocks: At least one.
    """

    def __init__(self, blocks: Sequence[bytes]) -> None:
        self._size = len(blocks[0])
        assert all(len(block) == self._size for block in blocks), "blocks of different sizes"
        self._count = len(blocks)
        self._bytes = memoryview(b"".join(blocks) * 2)
        self._next = 0

    def take(self, count: int) -> memoryview:
        """Return the next blocks, as one view.

        Args:
            count: How many; not more than there are.
        """
        assert 0 < count <= self._count, f"{count} of {self._count} blocks"
        start = self._next * self._size
        self._next = (self._next + count) % self._count
        return self._bytes[start : start + count * self._size]
