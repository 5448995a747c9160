"""What the links of a redirection tell of outages and handovers. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.model import HandoverKind
from kubectl_vmredir.service.interface import Handover
from kubectl_vmredir.service.migration import MigrationPhase

if TYPE_CHECKING:
    from kubectl_vmredir.service.links import Destination, LinkEnd
    from kubectl_vmredir.service.migration import VmiFacts


class Journey:
    """Follows a device from one QEMU to the next.

    Attributes:
        departed: The end of the last link over which a guest had the device, while it has not
            arrived again.
        migrations_survived: Migrations after which the device came back.
        last_outage_ms: How long the last time without a link was; None if there was none.
    """

    def __init__(self) -> None:
        self.departed: LinkEnd | None = None
        self.migrations_survived = 0
        self.last_outage_ms: float | None = None

    def link_ended(self, end: LinkEnd) -> None:
        """Take in the end of a link; one over which nobody got the device changes nothing."""
        if end.was_attached:
            self.departed = end

    def break_off(self) -> None:
        """Take in that the device was taken back: what comes next is no handover, and no outage."""
        self.departed = None

    def under_way(self, facts: VmiFacts, now: float) -> bool:
        """Return whether the VM has moved since the device left it, or is just moving."""
        if self.departed is None:
            return False
        if has_moved(self.departed.to, facts):
            return True
        moving = facts.in_flight(now)
        return (moving is not None and moving.phase is not MigrationPhase.ANNOUNCED) or any(
            migration.flip_awaited for migration in facts.migrations
        )

    def arrived(self, to: Destination, first_sent_at: float) -> Handover | None:
        """Take in that a guest has the device again.

        Args:
            to: Where.
            first_sent_at: When our first byte went there.

        Returns:
            The handover, if it is another QEMU of the same VM since a migration.
        """
        if (departed := self.departed) is None:
            return None
        self.departed = None
        self.last_outage_ms = round((first_sent_at - departed.at) * 1000, 1)
        source = departed.to
        if source.uid != to.uid or (source.node, source.successes) == (to.node, to.successes):
            return None
        self.migrations_survived += max(1, to.successes - source.successes)
        return Handover(HandoverKind.COLD, self.last_outage_ms, source.node, to.node)


def has_moved(to: Destination, facts: VmiFacts) -> bool:
    """Return whether the VM is no longer where a link was dialed to."""
    if facts.vmi is None or facts.vmi.uid != to.uid:
        return False
    return facts.vmi.node not in ("", to.node) or facts.successes > to.successes
