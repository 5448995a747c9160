"""What the API server does wrong when it is asked to; consulted at one place each."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field


class DialFault(enum.StrEnum):
    """How the next dial of a subresource is refused."""

    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    CONFLICT = "409"
    SLOTS_FULL = "500"
    """As virt-api says it when virt-handler has no free slot."""
    UNAVAILABLE = "503"
    """As kube-apiserver says it while virt-api is away: plain text, no Status."""


class WatchFault(enum.StrEnum):
    """How the next watch is told that its resourceVersion is too old."""

    GONE_STATUS = "status"
    """HTTP 410 in place of a stream."""
    GONE_EVENT = "event"
    """A stream whose only event is an ERROR with code 410."""


@dataclass(slots=True)
class Faults:
    """Wishes for trouble. Queues are used up one by one, in order; the rest stays until changed.

    Attributes:
        dials: Refusals of the next dials.
        watches: Answers to the next watches that name a resourceVersion.
        resets_after_101: So many of the next streams are cut by RST right after the 101.
        virt_api_down: Whether virt-api does not run; see ApiServer.stop_virt_api.
        old_dial_texts: Whether refusals of a virt-handler are told as before KubeVirt 1.8.
        response_delay_s: How long each answer is held back, in seconds.
    """

    dials: deque[DialFault] = field(default_factory=deque)
    watches: deque[WatchFault] = field(default_factory=deque)
    resets_after_101: int = 0
    virt_api_down: bool = False
    old_dial_texts: bool = False
    response_delay_s: float = 0.0
