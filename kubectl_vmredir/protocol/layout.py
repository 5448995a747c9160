"""Which packets may be on the wire: who sends them, how long they are, what they need.

One row per type of "USB Network Redirection protocol description version 0.7", and the
bounds that we add. Everything that reads or writes usbredir asks this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.protocol.constants import NO_CAPS, Cap, PacketType, Side

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BULK_SIZE: Final = 1 << 20
"""Most bytes of one bulk transfer. Linux asks for no more (usb-storage: 2048 sectors at super
speed, 120 KiB below it); the C library takes 128 MiB."""
MAX_TRANSFER_SIZE: Final = 0xFFFF
"""Most bytes of one control, iso or interrupt transfer: their length has 16 bits."""
MAX_FILTER_SIZE: Final = 8192
"""Most bytes of a filter, its NUL included: some 290 rules. No bound in the specification."""
MAX_HELLO_CAPS_SIZE: Final = 64
"""Most bytes of capability words in a hello: 16, where version 0.7 has one."""

_HOST: Final = frozenset({Side.HOST})
_GUEST: Final = frozenset({Side.GUEST})
_BOTH: Final = frozenset(Side)


@dataclass(frozen=True, slots=True)
class Layout:
    """One row of the table.

    Attributes:
        senders: The sides that may send it.
        size: Size of the type-specific header, in bytes, when no capability is agreed.
        grows: Capabilities that make it longer, and by how many bytes.
        max_tail: Most bytes that may follow the type-specific header.
        needs: The capability without which it must not be sent.
        endpoint_at: Where the body has an endpoint address; None if it has none.
        status_at: Where the body has a status; None if it has none.
    """

    senders: frozenset[Side]
    size: int
    grows: tuple[tuple[Cap, int], ...] = ()
    max_tail: int = 0
    needs: Cap = NO_CAPS
    endpoint_at: int | None = None
    status_at: int | None = None

    def header_size(self, caps: Cap) -> int:
        """Return the size of the type-specific header, in bytes, under these agreed caps."""
        return self.size + sum(extra for cap, extra in self.grows if cap in caps)


LAYOUTS: Final[Mapping[PacketType, Layout]] = MappingProxyType(
    {
        PacketType.HELLO: Layout(_BOTH, 64, max_tail=MAX_HELLO_CAPS_SIZE),
        PacketType.DEVICE_CONNECT: Layout(_HOST, 8, grows=((Cap.CONNECT_DEVICE_VERSION, 2),)),
        PacketType.DEVICE_DISCONNECT: Layout(_HOST, 0),
        PacketType.RESET: Layout(_GUEST, 0),
        PacketType.INTERFACE_INFO: Layout(_HOST, 132),
        PacketType.EP_INFO: Layout(
            _HOST, 96, grows=((Cap.EP_INFO_MAX_PACKET_SIZE, 64), (Cap.BULK_STREAMS, 128))
        ),
        PacketType.SET_CONFIGURATION: Layout(_GUEST, 1),
        PacketType.GET_CONFIGURATION: Layout(_GUEST, 0),
        PacketType.CONFIGURATION_STATUS: Layout(_HOST, 2, status_at=0),
        PacketType.SET_ALT_SETTING: Layout(_GUEST, 2),
        PacketType.GET_ALT_SETTING: Layout(_GUEST, 1),
        PacketType.ALT_SETTING_STATUS: Layout(_HOST, 3, status_at=0),
        PacketType.START_ISO_STREAM: Layout(_GUEST, 3, endpoint_at=0),
        PacketType.STOP_ISO_STREAM: Layout(_GUEST, 1, endpoint_at=0),
        PacketType.ISO_STREAM_STATUS: Layout(_HOST, 2, status_at=0, endpoint_at=1),
        PacketType.START_INTERRUPT_RECEIVING: Layout(_GUEST, 1, endpoint_at=0),
        PacketType.STOP_INTERRUPT_RECEIVING: Layout(_GUEST, 1, endpoint_at=0),
        PacketType.INTERRUPT_RECEIVING_STATUS: Layout(_HOST, 2, status_at=0, endpoint_at=1),
        # The specification asks for no cap here, and QEMU frees streams without a look at it.
        PacketType.ALLOC_BULK_STREAMS: Layout(_GUEST, 8),
        PacketType.FREE_BULK_STREAMS: Layout(_GUEST, 4),
        PacketType.BULK_STREAMS_STATUS: Layout(_HOST, 9, status_at=8),
        PacketType.CANCEL_DATA_PACKET: Layout(_GUEST, 0),
        PacketType.FILTER_REJECT: Layout(_GUEST, 0, needs=Cap.FILTER),
        PacketType.FILTER_FILTER: Layout(_BOTH, 1, max_tail=MAX_FILTER_SIZE - 1, needs=Cap.FILTER),
        PacketType.DEVICE_DISCONNECT_ACK: Layout(_GUEST, 0, needs=Cap.DEVICE_DISCONNECT_ACK),
        PacketType.START_BULK_RECEIVING: Layout(
            _GUEST, 10, needs=Cap.BULK_RECEIVING, endpoint_at=8
        ),
        PacketType.STOP_BULK_RECEIVING: Layout(_GUEST, 5, needs=Cap.BULK_RECEIVING, endpoint_at=4),
        PacketType.BULK_RECEIVING_STATUS: Layout(
            _HOST, 6, needs=Cap.BULK_RECEIVING, endpoint_at=4, status_at=5
        ),
        PacketType.CONTROL_PACKET: Layout(
            _BOTH, 10, max_tail=MAX_TRANSFER_SIZE, endpoint_at=0, status_at=3
        ),
        PacketType.BULK_PACKET: Layout(
            _BOTH,
            8,
            grows=((Cap.BULK_LENGTH_32BITS, 2),),
            max_tail=MAX_BULK_SIZE,
            endpoint_at=0,
            status_at=1,
        ),
        PacketType.ISO_PACKET: Layout(
            _BOTH, 4, max_tail=MAX_TRANSFER_SIZE, endpoint_at=0, status_at=1
        ),
        PacketType.INTERRUPT_PACKET: Layout(
            _BOTH, 4, max_tail=MAX_TRANSFER_SIZE, endpoint_at=0, status_at=1
        ),
        PacketType.BUFFERED_BULK_PACKET: Layout(
            _HOST,
            10,
            max_tail=MAX_BULK_SIZE,
            needs=Cap.BULK_RECEIVING,
            endpoint_at=8,
            status_at=9,
        ),
    }
)
"""Sizes are those of the packed structs of usbredirproto.h."""


def senders(packet_type: PacketType) -> frozenset[Side]:
    """Return the sides that may send packets of this type."""
    return LAYOUTS[packet_type].senders


def check_header(packet_type: PacketType, length: int, *, sender: Side, caps: Cap) -> None:
    """Check what can be told from the header of a packet alone.

    Args:
        packet_type: Type in the header.
        length: Length in the header: size of the body, in bytes.
        sender: Who sent it.
        caps: The agreed capabilities, :data:`NO_CAPS` for a hello.

    Raises:
        RemoteProtocolError: If the sender must not send this type, or if no packet of this
            type has this length.
    """
    layout = LAYOUTS[packet_type]
    label = packet_type.label
    if sender not in layout.senders:
        raise RemoteProtocolError(f"{label} is not for a {sender.value} to send")
    if layout.needs not in caps:
        raise RemoteProtocolError(f"{label} without cap {layout.needs.name}")
    least = layout.header_size(caps)
    if not least <= length <= least + layout.max_tail:
        raise RemoteProtocolError(f"{label} of {length} bytes")
