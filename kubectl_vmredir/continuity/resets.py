"""Counts the resets that a device gets because a guest wants it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubectl_vmredir.protocol.constants import PacketType

if TYPE_CHECKING:
    from kubectl_vmredir.continuity.ledger import Ledger
    from kubectl_vmredir.protocol.spans import Span

_STARTS: Final = frozenset(
    {
        PacketType.START_ISO_STREAM,
        PacketType.START_INTERRUPT_RECEIVING,
        PacketType.START_BULK_RECEIVING,
    }
)


class Resets:
    """Knows which resets count.

    One that finds the device unused since the last one does not: it goes to the usb-host, and
    libusbredirhost leaves it out.

    Attributes:
        forwarded: So many did.

    Args:
        ledger: Knows how often the device was used.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.forwarded = 0
        self._ledger = ledger
        self._uses_before = 0

    def command(self, span: Span) -> None:
        """Take note of a command of the guest."""
        if span.type is PacketType.RESET:
            self.forwarded += self._ledger.uses > self._uses_before
            self._uses_before = self._ledger.uses
        elif span.type in _STARTS:
            self._ledger.uses += 1
