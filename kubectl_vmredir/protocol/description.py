"""Packets in which the sides describe themselves, the device, and what they let in.

Source: "USB Network Redirection protocol description version 0.7", section of each packet's
name. The usb-host sends interface_info and ep_info, then device_connect; the first two again
after each change of configuration or alternate setting, before its status.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.model import UsbClass
from kubectl_vmredir.protocol.body import pack, unpack
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    ENDPOINT_COUNT,
    Cap,
    PacketType,
    TransferType,
    UsbSpeed,
    endpoint_index,
)
from kubectl_vmredir.protocol.filter import FilterRule, format_rules, parse_rules
from kubectl_vmredir.protocol.layout import MAX_FILTER_SIZE, MAX_HELLO_CAPS_SIZE

_VERSION_SIZE: Final = 64  # char version[64] in usb_redir_hello_header
_MAX_INTERFACES: Final = 32


@dataclass(frozen=True, slots=True)
class Hello:
    """The first packet of each side; its header has 12 bytes always.

    Attributes:
        version: Free text, for logs only: the specification forbids parsing it. Untrusted.
        caps: Capabilities of the sender, as far as version 0.7 knows them.
    """

    type: ClassVar = PacketType.HELLO
    _WIRE: ClassVar = struct.Struct(f"<{_VERSION_SIZE}sI")

    version: str
    caps: Cap

    def encode(self, caps: Cap) -> bytes:
        """Encode the body; a version that is too long is cut, agreed caps have no say.

        Raises:
            LocalProtocolError: If there are more capabilities than one word has bits.
        """
        version = self.version.encode(errors="replace")[: _VERSION_SIZE - 1]
        return pack(self.type, self._WIRE, version, self.caps)

    @classmethod
    def decode(cls, body: bytes, caps: Cap) -> Self:
        """Decode a body.

        Raises:
            RemoteProtocolError: If it is not a version and whole capability words.
        """
        if not 0 <= len(body) - _VERSION_SIZE <= MAX_HELLO_CAPS_SIZE or len(body) % 4:
            raise RemoteProtocolError(f"hello of {len(body)} bytes")
        version = body[: _VERSION_SIZE - 1].split(b"\0", 1)[0].decode(errors="replace")
        # A later version may send more words or bits than we know: keep what we know.
        first_word = int.from_bytes(body[_VERSION_SIZE : _VERSION_SIZE + 4], "little")
        return cls(version, Cap(first_word) & ALL_CAPS)


@dataclass(frozen=True, slots=True)
class DeviceConnect:
    """A device is there.

    Attributes:
        speed: Speed it runs at.
        device_class: bDeviceClass of its device descriptor, and so on.
        device_version_bcd: bcdDevice; 0 where CONNECT_DEVICE_VERSION is not agreed.
    """

    type: ClassVar = PacketType.DEVICE_CONNECT
    _WIRE: ClassVar = struct.Struct("<BBBBHH")
    _WIRE_VERSION: ClassVar = struct.Struct("<BBBBHHH")

    speed: UsbSpeed
    device_class: int
    device_subclass: int
    device_protocol: int
    vendor_id: int
    product_id: int
    device_version_bcd: int = 0

    def encode(self, caps: Cap) -> bytes:
        """Encode the body.

        Raises:
            LocalProtocolError: If a field does not fit.
        """
        values = (
            self.speed,
            self.device_class,
            self.device_subclass,
            self.device_protocol,
            self.vendor_id,
            self.product_id,
        )
        if Cap.CONNECT_DEVICE_VERSION in caps:
            return pack(self.type, self._WIRE_VERSION, *values, self.device_version_bcd)
        return pack(self.type, self._WIRE, *values)

    @classmethod
    def decode(cls, body: bytes, caps: Cap) -> Self:
        """Decode a body.

        Raises:
            RemoteProtocolError: If it has the wrong size or an unknown speed.
        """
        wire = cls._WIRE_VERSION if Cap.CONNECT_DEVICE_VERSION in caps else cls._WIRE
        raw_speed, *values = unpack(cls.type, wire, body)
        try:
            speed = UsbSpeed(raw_speed)
        except ValueError as exc:
            raise RemoteProtocolError(f"device_connect with unknown speed {raw_speed}") from exc
        return cls(speed, *values)


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface of the active configuration.

    Attributes:
        number: bInterfaceNumber.
        usb_class: Class triple of its active alternate setting.
    """

    number: int
    usb_class: UsbClass


@dataclass(frozen=True, slots=True)
class InterfaceInfo:
    """The interfaces of the device, at most 32."""

    type: ClassVar = PacketType.INTERFACE_INFO
    _WIRE: ClassVar = struct.Struct("<I128B")

    interfaces: tuple[Interface, ...]

    def encode(self, caps: Cap) -> bytes:
        """Encode the body.

        Raises:
            LocalProtocolError: If there are too many interfaces or a field does not fit.
        """
        count = len(self.interfaces)
        if count > _MAX_INTERFACES:
            raise LocalProtocolError(f"interface_info with {count} interfaces")
        padding = (0,) * (_MAX_INTERFACES - count)
        return pack(
            self.type,
            self._WIRE,
            count,
            *(interface.number for interface in self.interfaces),
            *padding,
            *(interface.usb_class.base for interface in self.interfaces),
            *padding,
            *(interface.usb_class.sub for interface in self.interfaces),
            *padding,
            *(interface.usb_class.protocol for interface in self.interfaces),
            *padding,
        )

    @classmethod
    def decode(cls, body: bytes, caps: Cap) -> Self:
        """Decode a body; what it says past its own count is ignored.

        Raises:
            RemoteProtocolError: If it has the wrong size or too many interfaces.
        """
        count, *rows = unpack(cls.type, cls._WIRE, body)
        if count > _MAX_INTERFACES:
            raise RemoteProtocolError(f"interface_info with {count} interfaces")
        columns = [rows[start : start + count] for start in range(0, 128, _MAX_INTERFACES)]
        return cls(
            tuple(
                Interface(number, UsbClass(base, sub, protocol))
                for number, base, sub, protocol in zip(*columns, strict=True)
            )
        )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is known of one endpoint.

    Attributes:
        type: INVALID if there is no such endpoint.
        interval: bInterval of its descriptor.
        interface: Number of the interface it belongs to.
        max_packet_size: In bytes; 0 where EP_INFO_MAX_PACKET_SIZE is not agreed.
        max_streams: Bulk streams it can have; 0 where BULK_STREAMS is not agreed.
    """

    type: TransferType = TransferType.INVALID
    interval: int = 0
    interface: int = 0
    max_packet_size: int = 0
    max_streams: int = 0


@dataclass(frozen=True, slots=True)
class EpInfo:
    """All 32 possible endpoints: 0-15 out, then 0-15 in."""

    type: ClassVar = PacketType.EP_INFO

    endpoints: tuple[Endpoint, ...]

    def at(self, address: int) -> Endpoint:
        """Return the endpoint with this address, for instance 0x81."""
        return self.endpoints[endpoint_index(address)]

    def encode(self, caps: Cap) -> bytes:
        """Encode the body.

        Raises:
            LocalProtocolError: If there are not 32 endpoints, or a field does not fit.
        """
        if len(self.endpoints) != ENDPOINT_COUNT:
            raise LocalProtocolError(f"ep_info with {len(self.endpoints)} endpoints")
        columns: list[list[int]] = [
            [endpoint.type for endpoint in self.endpoints],
            [endpoint.interval for endpoint in self.endpoints],
            [endpoint.interface for endpoint in self.endpoints],
        ]
        if Cap.EP_INFO_MAX_PACKET_SIZE in caps:
            columns.append([endpoint.max_packet_size for endpoint in self.endpoints])
        if Cap.BULK_STREAMS in caps:
            columns.append([endpoint.max_streams for endpoint in self.endpoints])
        return pack(self.type, _ep_info_wire(caps), *itertools.chain(*columns))

    @classmethod
    def decode(cls, body: bytes, caps: Cap) -> Self:
        """Decode a body.

        Raises:
            RemoteProtocolError: If it has the wrong size or an unknown endpoint type.
        """
        values = unpack(cls.type, _ep_info_wire(caps), body)
        rows = zip(
            *(
                values[start : start + ENDPOINT_COUNT]
                for start in range(0, len(values), ENDPOINT_COUNT)
            ),
            strict=True,
        )
        try:
            return cls(tuple(Endpoint(TransferType(kind), *rest) for kind, *rest in rows))
        except ValueError as exc:
            raise RemoteProtocolError(f"ep_info with an unknown type: {exc}") from exc


def _ep_info_wire(caps: Cap) -> struct.Struct:
    sizes = "H" if Cap.EP_INFO_MAX_PACKET_SIZE in caps else ""
    streams = "I" if Cap.BULK_STREAMS in caps else ""
    columns = "BBB" + sizes + streams
    return struct.Struct("<" + "".join(f"{ENDPOINT_COUNT}{column}" for column in columns))


@dataclass(frozen=True, slots=True)
class FilterFilter:
    """The sender has a filter and may reject devices that it does not let in.

    Never to be sent to a QEMU: it has no code for it and crashes (docs/usbredir.md).
    """

    type: ClassVar = PacketType.FILTER_FILTER

    rules: tuple[FilterRule, ...]

    def encode(self, caps: Cap) -> bytes:
        """Encode the body.

        Raises:
            LocalProtocolError: If the filter is too long.
        """
        body = format_rules(self.rules).encode() + b"\0"
        if len(body) > MAX_FILTER_SIZE:
            raise LocalProtocolError(f"filter_filter of {len(body)} bytes")
        return body

    @classmethod
    def decode(cls, body: bytes, caps: Cap) -> Self:
        """Decode a body.

        Raises:
            RemoteProtocolError: If it does not end in NUL, is too long, or is no filter.
        """
        if len(body) > MAX_FILTER_SIZE:
            raise RemoteProtocolError(f"filter_filter of {len(body)} bytes")
        if not body.endswith(b"\0"):
            raise RemoteProtocolError("filter_filter without NUL at its end")
        try:
            return cls(parse_rules(body.split(b"\0", 1)[0].decode("ascii")))
        except ValueError as exc:
            raise RemoteProtocolError(f"filter_filter with a bad filter: {exc}") from exc
