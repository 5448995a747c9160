"""Writes packets as bytes, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.protocol.constants import ALL_CAPS, NO_CAPS, Cap, PacketType
from kubectl_vmredir.protocol.packets import Packet, encode_packet

if TYPE_CHECKING:
    from collections.abc import Iterable

Numbered = Packet | tuple[int, Packet]
"""A packet with id 0, or an id and a packet."""


def wire(*packets: Numbered, caps: Cap = ALL_CAPS) -> bytes:
    """Return packets as one side sends them, one after the other."""
    return b"".join(_encode(packet_id, packet, caps) for packet_id, packet in _numbered(packets))


def _numbered(packets: Iterable[Numbered]) -> Iterable[tuple[int, Packet]]:
    for item in packets:
        yield item if isinstance(item, tuple) else (0, item)


def _encode(packet_id: int, packet: Packet, caps: Cap) -> bytes:
    if packet.type is PacketType.HELLO:
        caps = NO_CAPS
    return encode_packet(packet, packet_id=packet_id, caps=caps)
