"""What a guest is told when it asks for a device that is gone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.protocol.constants import PacketType, Status
from kubectl_vmredir.protocol.control import AltSettingStatus, ConfigurationStatus
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket, InterruptPacket
from kubectl_vmredir.protocol.layout import LAYOUTS
from kubectl_vmredir.protocol.packets import decode_body, encode_packet

if TYPE_CHECKING:
    from kubectl_vmredir.protocol.constants import Cap
    from kubectl_vmredir.protocol.packets import Packet
    from kubectl_vmredir.protocol.spans import Span

_UNKNOWN_ALT: Final = 0xFF
"""What libusbredirhost says where there is no alternate setting."""


def refuse(span: Span, *, configuration: int, caps: Cap) -> bytes:
    """Return the packet that ends a request of the guest with ioerror, as libusbredirhost does.

    Empty for what needs no answer. Commands about bulk streams are among that: QEMU waits for
    none, and at a bad one it unplugs the device by itself, at a time that we must choose.

    Args:
        span: The request.
        configuration: The active configuration, as last told.
        caps: The agreed capabilities.
    """
    match span.type:
        case PacketType.SET_CONFIGURATION | PacketType.GET_CONFIGURATION:
            answer: Packet = ConfigurationStatus(Status.IOERROR, configuration)
        case PacketType.SET_ALT_SETTING | PacketType.GET_ALT_SETTING:
            answer = AltSettingStatus(Status.IOERROR, span.head[0], _UNKNOWN_ALT)
        case PacketType.CONTROL_PACKET | PacketType.BULK_PACKET | PacketType.INTERRUPT_PACKET:
            request = decode_body(
                span.type, span.head[: LAYOUTS[span.type].header_size(caps)], caps
            )
            assert isinstance(request, ControlPacket | BulkPacket | InterruptPacket)
            answer = dataclasses.replace(request, status=Status.IOERROR, length=0)
        case _:
            return b""
    return encode_packet(answer, packet_id=span.id, caps=caps)
