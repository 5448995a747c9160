"""Our end of one link, from before it is dialed until it is gone."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self

from kubectl_vmredir.errors import StreamLost, VmRedirError
from kubectl_vmredir.model import Unknown

if TYPE_CHECKING:
    from kubectl_vmredir.model import Boundary, VmiRef, VmiUid, VmiView
    from kubectl_vmredir.service.migration import VmiFacts
    from kubectl_vmredir.service.ports import Link

HELD_BYTES: Final = 64 * 1024
"""Bytes of a fresh link kept until they may be answered: QEMU's hello is 80 bytes, and it says
no more before ours. One byte more, and the link is of no use."""

CLOSE_TIMEOUT_S: Final = 5.0
"""How long an orderly end of a link may take; then it is taken for ended."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a link was dialed to.

    Attributes:
        vmi: The VM.
        uid: Which life of the VM.
        node: The node it was on.
        successes: Migrations of it that we had seen succeed.
    """

    vmi: VmiRef
    uid: VmiUid
    node: str
    successes: int

    @classmethod
    def of(cls, vmi: VmiView, facts: VmiFacts) -> Self:
        """Return where the api route leads to a VM now."""
        return cls(vmi.ref, vmi.uid, vmi.node, facts.successes)


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """How a link ended.

    Attributes:
        at: When, on the loop's clock.
        to: Where it led.
        was_attached: Whether the guest had the device over it.
        cause: Why.
    """

    at: float
    to: Destination
    was_attached: bool
    cause: VmRedirError


class LinkOwner(Protocol):
    """Whom a link serves: the device session."""

    def link_greeted(self) -> None:
        """QEMU's hello came, and is held until :meth:`LinkEndpoint.release`."""

    def link_bytes(self, data: memoryview) -> None:
        """QEMU sent bytes, which may be answered. The view is valid during the call only."""

    def link_writable(self, writable: bool) -> None:
        """The write buffer passed its high (False) or low (True) water mark."""

    def link_answered(self, round_trip_s: float) -> None:
        """A ping was answered."""

    def link_unwanted(self, reason: str) -> None:
        """QEMU does what it may not: the link is of no use."""

    def link_over(self, boundary: Boundary, cause: VmRedirError) -> None:
        """The link is gone; called once, and nothing after it."""


class LinkEndpoint:
    """Hears one link, a ``LinkListener``, and holds QEMU's hello until it may be answered.

    Attributes:
        to: Where it leads.
        link: The link; None until the dialer has given it.
        opened_at: When that was, on the loop's clock.
        greeted: Whether QEMU has spoken: on a fresh link that is its hello.
        released_at: Since when what QEMU says may be answered; None while it may not.
        reading: Whether the owner wants to hear QEMU; if not, no pong is heard either.
    """

    def __init__(self, owner: LinkOwner, to: Destination) -> None:
        self.to = to
        self.link: Link | None = None
        self.opened_at = 0.0
        self.greeted = False
        self.released_at: float | None = None
        self.reading = True
        self._owner = owner
        self._held = bytearray()
        self._closing_because = ""
        self._over = False
        self._early_end: tuple[Boundary, VmRedirError] | None = None

    def opened(self, link: Link, now: float) -> None:
        """Take over the link that the dialer gave."""
        self.link, self.opened_at = link, now

    def catch_up(self) -> None:
        """Tell the owner what came before the dialer gave the link."""
        if self._held:
            self._greet()
        if self._early_end is not None:
            self.link_ended(*self._early_end)

    def release(self, now: float) -> None:
        """Let the owner have what was held, and what comes."""
        self.released_at = now
        held, self._held = self._held, bytearray()
        if held:
            self._owner.link_bytes(memoryview(held))

    def read(self, enabled: bool) -> None:
        """Stop or go on hearing QEMU."""
        self.reading = enabled
        if self.link is None or self._over:
            return
        if enabled:
            self.link.resume_reading()
        else:
            self.link.pause_reading()

    async def close(self, why: str) -> None:
        """Close the link. Whoever calls this has asked the gate."""
        self._closing_because = why
        if self.link is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self.link.close()
        self.link_ended(Unknown(), StreamLost(why))

    # -- LinkListener -----------------------------------------------------------------------

    def link_received(self, data: memoryview) -> None:
        """Bytes came from QEMU."""
        if self._over:
            return
        if self.released_at is not None:
            self._owner.link_bytes(data)
        elif len(self._held) + len(data) > HELD_BYTES:
            self._owner.link_unwanted("the VM talks on before it is answered")
        else:
            self._held += data
            if self.link is not None and not self.greeted:
                self._greet()

    def link_consumed(self, offset: int) -> None:
        """Of no use: a handover is cold, and its boundary unknown."""

    def link_writable(self, writable: bool) -> None:
        """The write buffer passed a water mark."""
        if self.link is not None and not self._over:
            self._owner.link_writable(writable)

    def link_pong(self, round_trip_s: float) -> None:
        """A ping was answered."""
        if not self._over:
            self._owner.link_answered(round_trip_s)

    def link_ended(self, boundary: Boundary, cause: VmRedirError) -> None:
        """The link is gone, or was before the dialer gave it."""
        if self.link is None:
            self._early_end = (boundary, cause)
        elif not self._over:
            self._over = True
            self._held.clear()
            why = self._closing_because
            self._owner.link_over(boundary, StreamLost(why) if why else cause)

    def _greet(self) -> None:
        self.greeted = True
        self._owner.link_greeted()
