"""Judges one open link: whether it lives, is of use, and is at risk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubectl_vmredir.service.journey import has_moved
from kubectl_vmredir.service.liveness import PONG_TIMEOUT_S, Heartbeat

if TYPE_CHECKING:
    from kubectl_vmredir.service.links import LinkEndpoint
    from kubectl_vmredir.service.migration import VmiFacts
    from kubectl_vmredir.service.session import DeviceSession

ATTACH_TIMEOUT_S: Final = 15.0
"""How long a VM may take to greet on a fresh link. A slot that is busy says nothing, ever."""

SETTLE_TIMEOUT_S: Final = 10.0
"""How long the usb-host may take to undo what a former guest left, before it is restarted."""

ENUMERATION_S: Final = 5.0
"""A guest may still be enumerating the device for so long after it was plugged in."""


class LinkHealth:
    """What the task of a redirection knows of the link that is open; it does no I/O but pings.

    Attributes:
        endpoint: Our end of the link.
        attached_at: When the guest was first seen to have the device; None before.

    Args:
        session: Whose link it is.
        endpoint: Our end of the link.
        now: Seconds on the loop's clock, as in all methods.
    """

    def __init__(self, session: DeviceSession, endpoint: LinkEndpoint, now: float) -> None:
        self.endpoint = endpoint
        self.attached_at: float | None = None
        self._session = session
        self._heartbeat = Heartbeat(now)
        self._heard = (session.pongs, session.bytes_down)
        self._unheard_since: float | None = None
        self._risk_told = False

    def probe(self, now: float) -> None:
        """Doubt the link: the machine has slept."""
        self._heartbeat.probe(now)

    def feel_pulse(self, now: float) -> None:
        """Take in what came back, and ping if it is time."""
        heard = (self._session.pongs, self._session.bytes_down)
        came, self._heard = heard != self._heard, heard
        if self.endpoint.reading:
            self._unheard_since = None
        elif came or self._unheard_since is None:
            self._unheard_since = now
        if came or not self.endpoint.reading:  # where nobody listens, no answer is missing
            self._heartbeat.alive()
        if self._heartbeat.ping_due(now):
            self._session.ping()

    def stall(self, now: float) -> str:
        """Return why nothing gets on just now; empty if it does."""
        if self._unheard_since is not None and now >= self._unheard_since + PONG_TIMEOUT_S:
            return "the usb-host does not take what the VM sends"
        return "the link is up, but nothing comes back" if self._heartbeat.stalled(now) else ""

    def at_risk(self, facts: VmiFacts, now: float) -> bool:
        """Return once whether a migration began while the guest was perhaps enumerating."""
        migration = facts.in_flight(now)
        if migration is None or self.attached_at is None or self._risk_told:
            return False
        self._risk_told = migration.first_seen_at - self.attached_at < ENUMERATION_S
        return self._risk_told

    def useless(self, facts: VmiFacts, now: float) -> str:
        """Return why the link is to be closed; empty if it is not."""
        session, endpoint = self._session, self.endpoint
        if session.lost:
            return f"the device is gone: {session.lost}"
        if told := session.restart_wanted or session.close_wanted:
            return told
        if session.rejected:
            return "the VM's QEMU refuses the device"
        if has_moved(endpoint.to, facts):
            return "the VM has moved"
        if facts.vmi is not None and facts.vmi.uid != endpoint.to.uid:
            return "the VM was restarted"
        if not session.attached and session.held_for is None and now >= self._attach_by:
            return "the VM does not take the device: the slot may be busy"
        return "nothing comes back on the link" if self._heartbeat.dead(now) else ""

    def next_look_at(self, facts: VmiFacts, now: float) -> float | None:
        """Return when one of the answers may change by itself."""
        looks = [self._heartbeat.next_look_at(now), self._attach_by]
        if self._unheard_since is not None:
            looks.append(self._unheard_since + PONG_TIMEOUT_S)
        looks += [end for migration in facts.migrations if (end := migration.reopens_at)]
        if self._session.last_end is not None:
            looks.append(self._session.last_end.at + SETTLE_TIMEOUT_S)
        return min((look for look in looks if look > now), default=None)

    @property
    def _attach_by(self) -> float:
        return (self.endpoint.released_at or self.endpoint.opened_at) + ATTACH_TIMEOUT_S


def is_restless(session: DeviceSession, now: float) -> bool:
    """Return whether the usb-host does not get done with what a former guest left."""
    # After a rejection it has only just begun, and the end of that link is still to come.
    if session.settled or session.last_end is None or session.rejected:
        return False
    return now >= session.last_end.at + SETTLE_TIMEOUT_S
