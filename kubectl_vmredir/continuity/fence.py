"""Brings the usb-host to rest between two guests, and knows when it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.continuity.ledger import STATUS_OF
from kubectl_vmredir.protocol.control import CancelDataPacket, GetConfiguration
from kubectl_vmredir.protocol.packets import encode_packet
from kubectl_vmredir.protocol.spans import HEAD_SIZE, Span, use

if TYPE_CHECKING:
    from kubectl_vmredir.continuity.device import Device
    from kubectl_vmredir.continuity.ledger import Ledger, Request
    from kubectl_vmredir.protocol.constants import Cap


class Fence:
    """The last of the commands that take back what a guest has left behind.

    It is a get_configuration of ours. A usb-host works off its control packets in order
    (usbredir 0.7, "Packet types"), and libusbredirhost answers a cancel at once, so all that
    belongs to the former guest comes before the fence's answer. A usb-host that answers a
    cancel later is waited for as well: rest means that no request is open.

    Args:
        ledger: The requests in flight.
        device: What has been set up on the device.

    Attributes:
        up: Whether something of a former guest may still be there.
    """

    def __init__(self, ledger: Ledger, device: Device) -> None:
        self._ledger = ledger
        self._device = device
        self._request: Request | None = None
        self.up = False

    def put_up(self, caps: Cap) -> bytes:
        """Return what undoes all that the guest has done; packets for the usb-host."""
        commands = [
            encode_packet(CancelDataPacket(), packet_id=packet_id, caps=caps)
            for packet_id in self._ledger.cancel_all()
        ]
        for packet in (*self._device.undo(), GetConfiguration()):
            commands.append(encode_packet(packet, packet_id=0, caps=caps))
            if packet.type in STATUS_OF:
                body = packet.encode(caps)
                code = use(packet.type, 0)
                own = Span(packet.type, 0, len(body), 0, 0, code, 0, body[:HEAD_SIZE], body)
                self._request = self._ledger.enter(own)
        self.up = True
        return b"".join(commands)

    def reach(self, request: Request | None) -> None:
        """Take note of a request that the usb-host has answered."""
        if request is self._request:
            self._request = None

    def take_down(self) -> bool:
        """Take the fence down if all is at rest behind it; return whether that was now."""
        if not self.up or self._request is not None or self._ledger.open:
            return False
        self.up = False
        return True

    def abandon(self) -> None:
        """The usb-host has ended: it answers no more."""
        self._ledger.clear()
        self._request = None
