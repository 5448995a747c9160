"""The usb-guest's end of one usbredir connection, as libusbredirparser keeps it.

All of it moves with the VM: a target with a client goes on in mid-stream, in the middle of a
packet if need be, and says no hello.

Source: usbredirparser.c of usbredir 0.13.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final, Self

from kubectl_vmredir.protocol.constants import ALL_CAPS, NO_CAPS, Cap, Side, agree
from kubectl_vmredir.protocol.description import Hello
from kubectl_vmredir.protocol.packets import Header, encode_packet
from kubectl_vmredir.protocol.parser import Parser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubectl_vmredir.protocol.packets import Packet

VERSION: Final = "qemu usb-redir guest 7.2.22"
"""What QEMU says of itself."""


class Conversation:
    """Packets in, packets out."""

    def __init__(self) -> None:
        self._parser = Parser(Side.HOST, own_caps=ALL_CAPS)
        self._peer_caps: Cap | None = None
        self._half = bytearray()  # what came of a packet that is not whole
        self.outbox = bytearray()
        """Bytes that are not written yet."""

    @property
    def caps(self) -> Cap:
        """The agreed capabilities; none before the peer's hello."""
        return NO_CAPS if self._peer_caps is None else agree(ALL_CAPS, self._peer_caps)

    def greet(self) -> None:
        """Queue the hello."""
        self.outbox += encode_packet(Hello(VERSION, ALL_CAPS), packet_id=0, caps=NO_CAPS)

    def queue(self, packet: Packet, packet_id: int = 0) -> None:
        """Queue a packet."""
        self.outbox += encode_packet(packet, packet_id=packet_id, caps=self.caps)

    def feed(self, data: bytes) -> list[tuple[int, Packet]]:
        """Take bytes of the usb-host and return ids and packets that became whole.

        Raises:
            RemoteProtocolError: If usbredirparser may reject them.
        """
        self._half += data
        packets = self._parser.feed(data)
        for header, packet in packets:
            wide_ids = Cap.IDS_64BITS in self.caps
            del self._half[: Header.size(wide_ids=wide_ids) + header.length]
            if isinstance(packet, Hello):
                self._peer_caps = packet.caps
        return [(header.id, packet) for header, packet in packets]

    def save(self) -> dict[str, Any]:
        """Return all that moves with the VM, as JSON."""
        return {
            "peer_caps": self._peer_caps if self._peer_caps is None else int(self._peer_caps),
            "half": base64.b64encode(self._half).decode(),
            "outbox": base64.b64encode(self.outbox).decode(),
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """Go on where :meth:`save` was."""
        conversation = cls()
        if state["peer_caps"] is not None:
            hello = Hello("", Cap(state["peer_caps"]))
            conversation.feed(encode_packet(hello, packet_id=0, caps=NO_CAPS))
        conversation.feed(base64.b64decode(state["half"]))
        conversation.outbox += base64.b64decode(state["outbox"])
        return conversation
