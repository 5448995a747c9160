"""What packets have in common when their body is written and read."""

from __future__ import annotations

import dataclasses
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.protocol.constants import INPUT, PacketType, Status

if TYPE_CHECKING:
    from kubectl_vmredir.protocol.constants import Cap


@dataclass(frozen=True, slots=True)
class FixedBody:
    """A packet whose fields lie on the wire in the order of its class, whatever the caps.

    Attributes:
        type: Packet type of the class.
        wire: Layout of the fields; a field called ``status`` is a :class:`Status`.
    """

    type: ClassVar[PacketType]
    wire: ClassVar[struct.Struct] = struct.Struct("")

    def encode(self, caps: Cap) -> bytes:
        """Encode the body.

        Raises:
            LocalProtocolError: If a field does not fit, or the protocol forbids the packet.
        """
        if fault := self.fault():
            raise LocalProtocolError(fault)
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return pack(self.type, self.wire, *values)

    @classmethod
    def decode(cls, body: bytes, caps: Cap) -> Self:
        """Decode a body.

        Raises:
            RemoteProtocolError: If it has the wrong size, or the protocol forbids the packet.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        values = dict(zip(names, unpack(cls.type, cls.wire, body), strict=True))
        if "status" in values:
            values["status"] = Status(values["status"])
        packet = cls(**values)
        if fault := packet.fault():
            raise RemoteProtocolError(fault)
        return packet

    def fault(self) -> str | None:
        """Return why the protocol forbids this packet; None if it does not."""
        return None


def pack(packet_type: PacketType, layout: struct.Struct, *values: object) -> bytes:
    """Pack the fields of a packet.

    Raises:
        LocalProtocolError: If one does not fit.
    """
    try:
        return layout.pack(*values)
    except struct.error as exc:
        raise LocalProtocolError(f"{packet_type.label} with a field out of range: {exc}") from exc


def unpack(packet_type: PacketType, layout: struct.Struct, body: bytes) -> tuple[int, ...]:
    """Unpack the fields of a packet, all of them numbers.

    Raises:
        RemoteProtocolError: If the body has the wrong size.
    """
    if len(body) != layout.size:
        raise RemoteProtocolError(f"{packet_type.label} of {len(body)} bytes")
    return layout.unpack(body)


def no_input(packet_type: PacketType, endpoint: int) -> str | None:
    """Return a fault if ``endpoint`` is not an input: usbredirparser rejects the packet.

    Where QEMU reads such a packet together with what follows it, the VM aborts. Endpoint
    0x80 counts as an input, although no device has an endpoint zero to receive from.
    """
    return None if endpoint & INPUT else f"{packet_type.label} for output endpoint {endpoint:#04x}"
