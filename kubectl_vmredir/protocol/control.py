"""Control packets: what the usb-guest asks of the usb-host, and the answers.

Source: "USB Network Redirection protocol description version 0.7", section of each packet's
name. Where a packet has an id, the answer carries the same one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Final

from kubectl_vmredir.protocol.body import FixedBody, no_input
from kubectl_vmredir.protocol.constants import PacketType, Status
from kubectl_vmredir.protocol.layout import MAX_BULK_SIZE

_B: Final = struct.Struct("<B")
_BB: Final = struct.Struct("<BB")
_BBB: Final = struct.Struct("<BBB")


# -- the device as a whole ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceDisconnect(FixedBody):
    """The device was unplugged."""

    type: ClassVar = PacketType.DEVICE_DISCONNECT


@dataclass(frozen=True, slots=True)
class DeviceDisconnectAck(FixedBody):
    """The guest has seen the device go and sends no more for it."""

    type: ClassVar = PacketType.DEVICE_DISCONNECT_ACK


@dataclass(frozen=True, slots=True)
class Reset(FixedBody):
    """Reset the device. Has no answer."""

    type: ClassVar = PacketType.RESET


@dataclass(frozen=True, slots=True)
class FilterReject(FixedBody):
    """The filter of the guest does not let the device in."""

    type: ClassVar = PacketType.FILTER_REJECT


@dataclass(frozen=True, slots=True)
class CancelDataPacket(FixedBody):
    """Cancel the data packet whose id is in the header; its own answer comes all the same."""

    type: ClassVar = PacketType.CANCEL_DATA_PACKET


# -- configuration and alternate settings ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetConfiguration(FixedBody):
    """Make ``configuration`` (a bConfigurationValue) the active one."""

    type: ClassVar = PacketType.SET_CONFIGURATION
    wire: ClassVar = _B

    configuration: int


@dataclass(frozen=True, slots=True)
class GetConfiguration(FixedBody):
    """Ask for the active configuration."""

    type: ClassVar = PacketType.GET_CONFIGURATION


@dataclass(frozen=True, slots=True)
class ConfigurationStatus(FixedBody):
    """Answers set_configuration and get_configuration.

    After a successful set_configuration interface_info and ep_info come first.
    """

    type: ClassVar = PacketType.CONFIGURATION_STATUS
    wire: ClassVar = _BB

    status: Status
    configuration: int


@dataclass(frozen=True, slots=True)
class SetAltSetting(FixedBody):
    """Choose an alternate setting of an interface."""

    type: ClassVar = PacketType.SET_ALT_SETTING
    wire: ClassVar = _BB

    interface: int
    alt: int


@dataclass(frozen=True, slots=True)
class GetAltSetting(FixedBody):
    """Ask for the alternate setting of an interface."""

    type: ClassVar = PacketType.GET_ALT_SETTING
    wire: ClassVar = _B

    interface: int


@dataclass(frozen=True, slots=True)
class AltSettingStatus(FixedBody):
    """Answers set_alt_setting and get_alt_setting, the former after infos as above."""

    type: ClassVar = PacketType.ALT_SETTING_STATUS
    wire: ClassVar = _BBB

    status: Status
    interface: int
    alt: int


# -- iso and interrupt streams --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartIsoStream(FixedBody):
    """Start an iso stream.

    Attributes:
        endpoint: Either direction.
        pkts_per_urb: Iso packets in one URB.
        no_urbs: URBs to have in flight.
    """

    type: ClassVar = PacketType.START_ISO_STREAM
    wire: ClassVar = _BBB

    endpoint: int
    pkts_per_urb: int
    no_urbs: int


@dataclass(frozen=True, slots=True)
class StopIsoStream(FixedBody):
    """Stop an iso stream; packets that are under way may still arrive."""

    type: ClassVar = PacketType.STOP_ISO_STREAM
    wire: ClassVar = _B

    endpoint: int


@dataclass(frozen=True, slots=True)
class IsoStreamStatus(FixedBody):
    """Answers start and stop; unsolicited with STALL if the stream broke."""

    type: ClassVar = PacketType.ISO_STREAM_STATUS
    wire: ClassVar = _BB

    status: Status
    endpoint: int


@dataclass(frozen=True, slots=True)
class StartInterruptReceiving(FixedBody):
    """Start to poll an interrupt input endpoint."""

    type: ClassVar = PacketType.START_INTERRUPT_RECEIVING
    wire: ClassVar = _B

    endpoint: int

    def fault(self) -> str | None:
        """Return a fault if the endpoint is no input."""
        return no_input(self.type, self.endpoint)


@dataclass(frozen=True, slots=True)
class StopInterruptReceiving(FixedBody):
    """Stop to poll; packets that are under way may still arrive."""

    type: ClassVar = PacketType.STOP_INTERRUPT_RECEIVING
    wire: ClassVar = _B

    endpoint: int

    def fault(self) -> str | None:
        """Return a fault if the endpoint is no input."""
        return no_input(self.type, self.endpoint)


@dataclass(frozen=True, slots=True)
class InterruptReceivingStatus(FixedBody):
    """Answers start and stop; unsolicited with STALL if the polling broke.

    With endpoint 0x80 QEMU reads and ignores it: the *poke* (docs/usbredir.md).
    """

    type: ClassVar = PacketType.INTERRUPT_RECEIVING_STATUS
    wire: ClassVar = _BB

    status: Status
    endpoint: int

    def fault(self) -> str | None:
        """Return a fault if the endpoint is no input."""
        return no_input(self.type, self.endpoint)


# -- bulk streams (USB 3) -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AllocBulkStreams(FixedBody):
    """Allocate stream ids 1 to ``no_streams`` on some endpoints.

    Attributes:
        endpoints: Mask of endpoints, bits as in ep_info: 0-15 out, 16-31 in.
        no_streams: How many on each.
    """

    type: ClassVar = PacketType.ALLOC_BULK_STREAMS
    wire: ClassVar = struct.Struct("<II")

    endpoints: int
    no_streams: int


@dataclass(frozen=True, slots=True)
class FreeBulkStreams(FixedBody):
    """Free all stream ids of the endpoints of the mask."""

    type: ClassVar = PacketType.FREE_BULK_STREAMS
    wire: ClassVar = struct.Struct("<I")

    endpoints: int


@dataclass(frozen=True, slots=True)
class BulkStreamsStatus(FixedBody):
    """Answers alloc (with its ``no_streams``) and free (with 0)."""

    type: ClassVar = PacketType.BULK_STREAMS_STATUS
    wire: ClassVar = struct.Struct("<IIB")

    endpoints: int
    no_streams: int
    status: Status


# -- buffered bulk input --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartBulkReceiving(FixedBody):
    """Start to read a bulk input endpoint ahead of the guest.

    Attributes:
        stream_id: Bulk stream, 0 without streams.
        bytes_per_transfer: A multiple of the endpoint's max_packet_size.
        endpoint: An input.
        no_transfers: Transfers to have in flight.
    """

    type: ClassVar = PacketType.START_BULK_RECEIVING
    wire: ClassVar = struct.Struct("<IIBB")

    stream_id: int
    bytes_per_transfer: int
    endpoint: int
    no_transfers: int

    def fault(self) -> str | None:
        """Return a fault if the transfers are too long or the endpoint is no input."""
        if self.bytes_per_transfer > MAX_BULK_SIZE:
            return f"{self.type.label} in transfers of {self.bytes_per_transfer} bytes"
        return no_input(self.type, self.endpoint)


@dataclass(frozen=True, slots=True)
class StopBulkReceiving(FixedBody):
    """Stop to read ahead; packets that are under way may still arrive."""

    type: ClassVar = PacketType.STOP_BULK_RECEIVING
    wire: ClassVar = struct.Struct("<IB")

    stream_id: int
    endpoint: int

    def fault(self) -> str | None:
        """Return a fault if the endpoint is no input."""
        return no_input(self.type, self.endpoint)


@dataclass(frozen=True, slots=True)
class BulkReceivingStatus(FixedBody):
    """Answers start and stop; unsolicited with STALL if the reading broke."""

    type: ClassVar = PacketType.BULK_RECEIVING_STATUS
    wire: ClassVar = struct.Struct("<IBB")

    stream_id: int
    endpoint: int
    status: Status

    def fault(self) -> str | None:
        """Return a fault if the endpoint is no input."""
        return no_input(self.type, self.endpoint)
