"""Whether a link, and the machine under it, are alive. Pure: time is an argument.

Only pings of our own tell that a node hangs: nothing else happens then, for minutes
(docs/facts/kubevirt.md, "How streams end").
"""

from __future__ import annotations

from typing import Final

PING_INTERVAL_S: Final = 10.0
"""Most of what an idle link costs. Load balancers that end silent streams wait for 21 s at least
(KubeVirt, issue 6493), so that one ping may get lost; what hangs is seen that much later."""
PONG_TIMEOUT_S: Final = 5.0
"""A ping unanswered for so long: the link is shown as stalled."""

DEAD_AFTER_S: Final = 20.0
"""A ping unanswered for so long: the link is given up, as soon as that harms nobody."""

PROBE_TIMEOUT_S: Final = 3.0
"""A probe unanswered for so long: as DEAD_AFTER_S. There is a reason to doubt the link."""

SUSPENDED_S: Final = 2.0
"""The machine slept if its two clocks have come apart by so much."""


class Heartbeat:
    """Says when to ping a link, and from the answers whether it lives.

    Args:
        now: Seconds on a monotonic clock, as in all methods.
    """

    def __init__(self, now: float) -> None:
        self._next_ping_at = now
        self._asked_at: float | None = None
        self._probing = False

    def alive(self) -> None:
        """Something came back."""
        self._asked_at = None
        self._probing = False

    def probe(self, now: float) -> None:
        """Doubt the link: ping at once, and allow less time for the answer."""
        self._next_ping_at = now
        self._asked_at = None
        self._probing = True

    def ping_due(self, now: float) -> bool:
        """Return whether to ping now; if so, it counts as done."""
        if now < self._next_ping_at:
            return False
        self._next_ping_at = now + PING_INTERVAL_S
        if self._asked_at is None:
            self._asked_at = now
        return True

    def stalled(self, now: float) -> bool:
        """Return whether an answer is missing."""
        return self._asked_at is not None and now >= self._asked_at + self._pong_timeout_s

    def dead(self, now: float) -> bool:
        """Return whether an answer has been missing for so long that none will come."""
        limit_s = PROBE_TIMEOUT_S if self._probing else DEAD_AFTER_S
        return self._asked_at is not None and now >= self._asked_at + limit_s

    def next_look_at(self, now: float) -> float:
        """Return when one of the answers above may change by itself."""
        looks = [self._next_ping_at]
        if self._asked_at is not None:
            looks += [self._asked_at + self._pong_timeout_s, self._asked_at + DEAD_AFTER_S]
        return min((look for look in looks if look > now), default=now)

    @property
    def _pong_timeout_s(self) -> float:
        return PROBE_TIMEOUT_S if self._probing else PONG_TIMEOUT_S


class SuspendDetector:
    """Notices that the machine slept: one clock stands still then, the other does not.

    Args:
        awake_s: Reading of the clock that counts waking time only (CLOCK_MONOTONIC).
        elapsed_s: Reading of the one that counts on (CLOCK_BOOTTIME).
    """

    def __init__(self, awake_s: float, elapsed_s: float) -> None:
        self._asleep_s = elapsed_s - awake_s

    def slept_s(self, awake_s: float, elapsed_s: float) -> float:
        """Return for how long the machine slept since the last call; 0 if it did not."""
        asleep_s = elapsed_s - awake_s
        slept_s = asleep_s - self._asleep_s
        self._asleep_s = asleep_s
        return slept_s if slept_s >= SUSPENDED_S else 0.0
