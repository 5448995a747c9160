"""The numbers of usbredir: packet types, capabilities, statuses, endpoint addresses.

Source: "USB Network Redirection protocol description version 0.7" (19 May 2014), as
usb-redirection-protocol.md of the usbredir source package, and usbredirproto.h beside it.
"""

from __future__ import annotations

import enum
from typing import Final, Self

ENDPOINT_COUNT: Final = 32
"""Endpoints of a device as usbredir counts them: 0-15 out, then 0-15 in."""

INPUT: Final = 0x80
"""Bit of an endpoint address that says device to host (USB 2.0, 9.6.6)."""


class Side(enum.Enum):
    """The two sides of a conversation."""

    HOST = "usb-host"
    """Has the device: us."""
    GUEST = "usb-guest"
    """Uses the device: QEMU in the VM."""


class PacketType(enum.IntEnum):
    """Values of usb_redir_header.type ("Packet type list")."""

    HELLO = 0
    DEVICE_CONNECT = 1
    DEVICE_DISCONNECT = 2
    RESET = 3
    INTERFACE_INFO = 4
    EP_INFO = 5
    SET_CONFIGURATION = 6
    GET_CONFIGURATION = 7
    CONFIGURATION_STATUS = 8
    SET_ALT_SETTING = 9
    GET_ALT_SETTING = 10
    ALT_SETTING_STATUS = 11
    START_ISO_STREAM = 12
    STOP_ISO_STREAM = 13
    ISO_STREAM_STATUS = 14
    START_INTERRUPT_RECEIVING = 15
    STOP_INTERRUPT_RECEIVING = 16
    INTERRUPT_RECEIVING_STATUS = 17
    ALLOC_BULK_STREAMS = 18
    FREE_BULK_STREAMS = 19
    BULK_STREAMS_STATUS = 20
    CANCEL_DATA_PACKET = 21
    FILTER_REJECT = 22
    FILTER_FILTER = 23
    DEVICE_DISCONNECT_ACK = 24
    START_BULK_RECEIVING = 25
    STOP_BULK_RECEIVING = 26
    BULK_RECEIVING_STATUS = 27
    CONTROL_PACKET = 100
    BULK_PACKET = 101
    ISO_PACKET = 102
    INTERRUPT_PACKET = 103
    BUFFERED_BULK_PACKET = 104

    @property
    def is_data(self) -> bool:
        """Whether it is a data packet, which carries a transfer; the others are small."""
        return self >= PacketType.CONTROL_PACKET

    @property
    def label(self) -> str:
        """The name in messages, as the specification writes it without usb_redir_."""
        return self.name.lower()


class Cap(enum.IntFlag):
    """Capabilities, as bits of the first capability word (usb_redir_cap_*)."""

    BULK_STREAMS = 1 << 0
    CONNECT_DEVICE_VERSION = 1 << 1
    FILTER = 1 << 2
    DEVICE_DISCONNECT_ACK = 1 << 3
    EP_INFO_MAX_PACKET_SIZE = 1 << 4
    IDS_64BITS = 1 << 5
    BULK_LENGTH_32BITS = 1 << 6
    BULK_RECEIVING = 1 << 7


ALL_CAPS: Final = Cap(0xFF)
NO_CAPS: Final = Cap(0)


def agree(own: Cap, theirs: Cap) -> Cap:
    """Return the capabilities that both sides have: what shapes the bytes of both streams.

    A side that announces BULK_STREAMS without EP_INFO_MAX_PACKET_SIZE breaks the
    specification ("usb_redir_ep_info"); like the C library we then take it as not announced.
    """
    common = own & theirs
    if Cap.EP_INFO_MAX_PACKET_SIZE not in common:
        common &= ~Cap.BULK_STREAMS
    return common


class Status(enum.IntEnum):
    """How a request ended ("Status code list").

    Any other value is an error of a later version and has to be taken as one; ``Status(200)``
    is therefore a Status too, without a name of its own.
    """

    SUCCESS = 0
    CANCELLED = 1
    INVAL = 2
    IOERROR = 3
    STALL = 4
    TIMEOUT = 5
    BABBLE = 6

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not 0 <= value <= 0xFF:
            return None
        status = int.__new__(cls, value)
        status._name_ = f"UNKNOWN_{value}"
        status._value_ = value
        return status


class TransferType(enum.IntEnum):
    """Type of an endpoint in ep_info (usb_redir_type_*)."""

    CONTROL = 0
    ISO = 1
    BULK = 2
    INTERRUPT = 3
    INVALID = 255
    """There is no such endpoint."""


class UsbSpeed(enum.IntEnum):
    """Speed of the device in device_connect (usb_redir_speed_*)."""

    LOW = 0
    FULL = 1
    HIGH = 2
    SUPER = 3
    UNKNOWN = 255


def endpoint_index(address: int) -> int:
    """Return where ep_info and the endpoint masks of bulk streams have this endpoint."""
    return (address & INPUT) >> 3 | address & 0x0F


def endpoint_address(index: int) -> int:
    """Return the address of the endpoint at this place of ep_info."""
    return (index & 0x10) << 3 | index & 0x0F
