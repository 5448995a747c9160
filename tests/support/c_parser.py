"""One side of a usbredir conversation as libusbredirparser plays it, for differential tests.

Structs are filled from the fields of our packets, and our packets from the fields of structs,
by name: no code of ours that knows the wire is involved.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import Self

from kubectl_vmredir.model import UsbClass
from kubectl_vmredir.protocol.constants import (
    Cap,
    PacketType,
    Side,
    Status,
    TransferType,
    UsbSpeed,
    agree,
)
from kubectl_vmredir.protocol.data import DataPacket
from kubectl_vmredir.protocol.description import (
    Endpoint,
    EpInfo,
    FilterFilter,
    Interface,
    InterfaceInfo,
)
from kubectl_vmredir.protocol.filter import FilterRule
from kubectl_vmredir.protocol.packets import PACKETS, Packet
from tests.support.c_library import SHAPES, CData, load, rule_array, rules_of

_FLAG_USB_HOST = 0x01
_LOG_ERROR = 1
_PARSE_ERROR = -2


class CParser:
    """One side of a conversation, as libusbredirparser plays it.

    Attributes:
        received: Packets with their ids, as far as the callback of the type tells it.
        peer_version: Version in the hello that was received.
        errors: What it logged as errors.
        broken: How often it rejected a packet.
    """

    def __init__(self, side: Side, caps: Cap, *, version: str = "c") -> None:
        ffi, self._lib = load()
        self._own_caps = caps
        self._input = b""
        self._output = b""
        self.received: list[tuple[int, Packet]] = []
        self.peer_version = ""
        self.errors: list[str] = []
        self.broken = 0
        self._callbacks: list[CData] = []  # cffi frees what nobody holds
        self._parser = self._lib.usbredirparser_create()
        for name in ("log", "read", "write"):
            self._connect(f"{name}_func", getattr(self, f"_{name}"))
        for name in SHAPES:
            self._connect(f"{name}_func", functools.partial(self._called, name))
        flags = _FLAG_USB_HOST if side is Side.HOST else 0
        caps_array = ffi.new("uint32_t[1]", [caps])
        self._lib.usbredirparser_init(self._parser, version.encode(), caps_array, 1, flags)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lib.usbredirparser_destroy(self._parser)

    @property
    def peer_caps(self) -> Cap:
        """Capabilities it has seen in the hello of the other side."""
        return Cap(
            sum(
                cap
                for number, cap in enumerate(Cap)
                if self._lib.usbredirparser_peer_has_cap(self._parser, number)
            )
        )

    @property
    def agreed(self) -> Cap:
        """Capabilities that it takes as agreed."""
        return agree(self._own_caps, self.peer_caps)

    def receive(self, data: bytes) -> None:
        """Let it read all of ``data``."""
        self._input += data
        result = self._lib.usbredirparser_do_read(self._parser)
        while result == _PARSE_ERROR:
            self.broken += 1
            result = self._lib.usbredirparser_do_read(self._parser)
        assert not self._input

    def sent(self) -> bytes:
        """Take what it wants to send."""
        while self._lib.usbredirparser_has_data_to_write(self._parser):
            assert self._lib.usbredirparser_do_write(self._parser) == 0
        output, self._output = self._output, b""
        return output

    def send(self, packet: Packet, packet_id: int) -> None:
        """Let it send a packet; the id is 0 where the library takes none."""
        ffi, _ = load()
        name = packet.type.label
        arguments: list[CData] = []
        for kind in SHAPES[name]:
            if kind == "i":
                arguments.append(packet_id)
            elif kind == "h":
                arguments.append(ffi.new(f"struct usb_redir_{name}_header *", _fields(packet)))
            elif kind == "d":
                assert isinstance(packet, DataPacket)
                data = ffi.from_buffer(packet.data) if packet.data else ffi.NULL
                arguments += [data, len(packet.data)]
            else:
                assert isinstance(packet, FilterFilter)
                arguments += [rule_array(packet.rules), len(packet.rules)]
        getattr(self._lib, f"usbredirparser_send_{name}")(self._parser, *arguments)

    def has_id(self, packet_type: PacketType) -> bool:
        """Whether the library's interface has an id for this type; else it is 0."""
        return "i" in SHAPES[packet_type.label]

    def _connect(self, member: str, function: CData) -> None:
        ffi, _ = load()
        callback = ffi.callback(ffi.typeof(getattr(self._parser, member)), function)
        self._callbacks.append(callback)
        setattr(self._parser, member, callback)

    def _log(self, _: CData, level: int, message: CData) -> None:
        if level == _LOG_ERROR:
            self.errors.append(load()[0].string(message).decode())

    def _read(self, _: CData, buffer: CData, count: int) -> int:
        piece, self._input = self._input[:count], self._input[count:]
        load()[0].memmove(buffer, piece, len(piece))
        return len(piece)

    def _write(self, _: CData, buffer: CData, count: int) -> int:
        self._output += load()[0].unpack(load()[0].cast("char *", buffer), count)
        return count

    def _called(self, name: str, _: CData, *arguments: CData) -> None:
        ffi, lib = load()
        given = list(arguments)
        packet_id, data = 0, b""
        header: CData = None
        rules: tuple[FilterRule, ...] = ()
        for kind in SHAPES[name]:
            if kind == "i":
                packet_id = given.pop(0)
            elif kind == "h":
                header = given.pop(0)
            elif kind == "d":
                buffer, size = given
                data = bytes(ffi.buffer(buffer, size)) if size else b""
                lib.usbredirparser_free_packet_data(self._parser, buffer)
            else:
                array, count = given
                rules = rules_of(array, count)
                lib.usbredirfilter_free(array)
        if name == "hello":
            self.peer_version = ffi.string(header.version, 64).decode(errors="replace")
        else:
            packet = _packet(PacketType[name.upper()], header, data, rules, self.agreed)
            self.received.append((packet_id, packet))


def _fields(packet: Packet) -> dict[str, CData]:
    """Return the fields of a type-specific header for a packet."""
    if isinstance(packet, InterfaceInfo):
        return {
            "interface_count": len(packet.interfaces),
            "interface": [each.number for each in packet.interfaces],
            "interface_class": [each.usb_class.base for each in packet.interfaces],
            "interface_subclass": [each.usb_class.sub for each in packet.interfaces],
            "interface_protocol": [each.usb_class.protocol for each in packet.interfaces],
        }
    if isinstance(packet, EpInfo):
        return {
            field.name: [getattr(endpoint, field.name) for endpoint in packet.endpoints]
            for field in dataclasses.fields(Endpoint)
        }
    fields = {
        field.name: getattr(packet, field.name)
        for field in dataclasses.fields(packet)
        if field.name != "data"
    }
    if packet.type is PacketType.BULK_PACKET:
        fields["length_high"], fields["length"] = divmod(fields["length"], 1 << 16)
    return fields


def _packet(
    packet_type: PacketType,
    header: CData,
    data: bytes,
    rules: tuple[FilterRule, ...],
    agreed: Cap,
) -> Packet:
    """Return the packet that a callback told of.

    Fields that are not on the wire under the agreed caps are not read: the library leaves in
    them what was there before.
    """
    if packet_type is PacketType.FILTER_FILTER:
        return FilterFilter(rules)
    if packet_type is PacketType.INTERFACE_INFO:
        return InterfaceInfo(
            tuple(_interface(header, number) for number in range(header.interface_count))
        )
    if packet_type is PacketType.EP_INFO:
        return EpInfo(tuple(_endpoint(header, number, agreed) for number in range(32)))
    packet_class: CData = PACKETS[packet_type]
    fields: dict[str, CData] = {
        field.name: data if field.name == "data" else getattr(header, field.name)
        for field in dataclasses.fields(packet_class)
    }
    if "status" in fields:
        fields["status"] = Status(fields["status"])
    if packet_type is PacketType.DEVICE_CONNECT:
        fields["speed"] = _known(UsbSpeed, fields["speed"])
        if Cap.CONNECT_DEVICE_VERSION not in agreed:
            fields["device_version_bcd"] = 0
    if packet_type is PacketType.BULK_PACKET:
        fields["length"] |= header.length_high << 16
    packet: Packet = packet_class(**fields)
    return packet


def _interface(header: CData, number: int) -> Interface:
    usb_class = UsbClass(
        header.interface_class[number],
        header.interface_subclass[number],
        header.interface_protocol[number],
    )
    return Interface(header.interface[number], usb_class)


def _endpoint(header: CData, number: int, agreed: Cap) -> Endpoint:
    return Endpoint(
        _known(TransferType, header.type[number]),
        header.interval[number],
        header.interface[number],
        header.max_packet_size[number] if Cap.EP_INFO_MAX_PACKET_SIZE in agreed else 0,
        header.max_streams[number] if Cap.BULK_STREAMS in agreed else 0,
    )


def _known(values: type[enum.IntEnum], value: int) -> CData:
    """Return a member of an enum, or the number if we do not know it."""
    return values(value) if value in set(values) else value
