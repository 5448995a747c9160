"""A packet that QEMU reads and ignores: that it was read proves that QEMU runs.

It is interrupt_receiving_status for endpoint 0x80, which is no interrupt endpoint of any device:
QEMU looks no further, answers nothing, and logs nothing. For endpoint 0x00 its parser would reject
the packet, and that can end the VM. Source: hw/usb/redirect.c of QEMU 7.2 and 10.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubectl_vmredir.protocol.constants import INPUT, Status
from kubectl_vmredir.protocol.control import InterruptReceivingStatus
from kubectl_vmredir.protocol.packets import encode_packet

if TYPE_CHECKING:
    from kubectl_vmredir.continuity.outgoing import Outgoing
    from kubectl_vmredir.protocol.constants import Cap

_PACKET: Final = InterruptReceivingStatus(Status.SUCCESS, INPUT)


class Poke:
    """The pokes of one link, of which one at most is unread.

    Args:
        out: What the link is given.

    Attributes:
        wanted: Whether one is to be sent as soon as that can be.
    """

    def __init__(self, out: Outgoing) -> None:
        self._out = out
        self.forget()

    def forget(self) -> None:
        """Begin with a fresh link."""
        self.wanted = False
        self._end = 0  # of the last one

    def splice(self, offset: int) -> None:
        """Go on with another link; so many bytes of this one were read."""
        self._end = max(0, self._end - offset)

    def is_due(self) -> bool:
        """Return whether one is to be sent now; if not, none is wanted any more."""
        self.wanted = self.wanted and self._out.read >= self._end
        return self.wanted

    def encode(self, caps: Cap) -> bytes:
        """Return one that is sent now."""
        packet = encode_packet(_PACKET, packet_id=0, caps=caps)
        self.wanted = False
        self._end = self._out.sent + len(packet)
        return packet
