"""A dialer with a script, and the links that it opens: a QEMU's end is the model guest."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from kubectl_vmredir.errors import StreamLost, VmRedirError
from kubectl_vmredir.model import Boundary, Route, Unknown, VmiRef
from kubectl_vmredir.protocol.constants import ALL_CAPS, Cap
from kubectl_vmredir.service.ports import LinkListener
from tests.support.model_guest import ModelGuest

CUT: Final = StreamLost("the stream ended")
UNKNOWN: Final = Unknown()
ROUND_TRIP_S: Final = 0.012


class FakeLink:
    """One link, seen from both ends.

    Attributes:
        vmi: Where it leads.
        guest: The QEMU at the far end; None for one that says nothing.
        received: What came from us.
        messages: How many times something came.
        closes: How often we closed it.
        open: Whether it is.
        answers_pings: Whether it does.
        pings: How many came.
        close_hangs: Whether a close never ends by itself.
        close_bug: Raised by the next closes, if set.
        while_sending: Called back while we send.
        ping_bug: Raised by the next pings, if set.
        reading: Whether we read.
    """

    route = Route.API

    def __init__(self, vmi: VmiRef, listener: LinkListener, guest: ModelGuest | None) -> None:
        self.vmi = vmi
        self.guest = guest
        self.received = bytearray()
        self.messages = 0
        self.closes = 0
        self.close_hangs = False
        self.close_bug: Exception | None = None
        self.while_sending: Callable[[], None] | None = None
        self.open = True
        self.answers_pings = True
        self.pings = 0
        self.ping_bug: Exception | None = None
        self.reading = True
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self.flush)

    @property
    def sent(self) -> int:
        return len(self.received)

    # -- our end ----------------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> None:
        if not self.open:
            return
        self.received += data
        self.messages += 1
        if self.while_sending is not None:
            self.while_sending()
        if self.guest is not None:
            self.guest.receive(bytes(data))
            self._loop.call_soon(self.flush)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self._loop.call_soon(self.flush)

    def ping(self) -> None:
        if self.ping_bug is not None:
            raise self.ping_bug
        self.pings += 1
        if self.answers_pings and self.open:
            self._loop.call_later(ROUND_TRIP_S, self._pong)

    async def close(self) -> None:
        self.closes += 1
        if self.close_bug is not None:
            raise self.close_bug
        if self.close_hangs:
            await asyncio.Event().wait()
        self.end(StreamLost("closed by us"))

    # -- the far end ------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what QEMU has to say."""
        if self.guest is not None and self.guest.outbox and self.reading:
            data = bytes(self.guest.outbox)
            self.guest.outbox.clear()
            self.deliver(data)

    def deliver(self, data: bytes) -> None:
        """Send anything as if QEMU had."""
        if self.open:
            self._listener.link_received(memoryview(data))

    def writable(self, writable: bool) -> None:
        """Pass a water mark of the write buffer."""
        self._listener.link_writable(writable)

    def end(self, cause: VmRedirError = CUT, boundary: Boundary = UNKNOWN) -> None:
        """End the stream, whoever does it."""
        if self.open:
            self.open = False
            self._listener.link_ended(boundary, cause)

    def _pong(self) -> None:
        if self.open and self.answers_pings and self.reading:
            self._listener.link_pong(ROUND_TRIP_S)


@dataclass(frozen=True, slots=True)
class Accept:
    """Open a link to a QEMU of these capabilities."""

    caps: Cap = ALL_CAPS


@dataclass(frozen=True, slots=True)
class Silence:
    """Open a link on which nobody says anything: the backlog of a busy slot."""


@dataclass(frozen=True, slots=True)
class DeadOnArrival:
    """Accept, and end the stream before the caller has it."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Answer when told to."""

    go: asyncio.Event = field(default_factory=asyncio.Event)


Outcome = Accept | Silence | DeadOnArrival | Hold | VmRedirError


class ScriptedDialer:
    """Answers each dial with the next entry of its script; an empty one accepts.

    Attributes:
        script: What comes next.
        attempts: When it was dialed, and to where.
        links: The links that it opened, oldest first.
        bug: Raised instead of all that, if set.
        login_s: How long it takes to get credentials, before it asks whether to dial.
    """

    def __init__(self) -> None:
        self.script: deque[Outcome] = deque()
        self.attempts: list[tuple[float, VmiRef]] = []
        self.links: list[FakeLink] = []
        self.bug: Exception | None = None
        self.login_s = 0.0
        self._guests = 0

    async def dial(self, vmi: VmiRef, listener: LinkListener, ask: Callable[[], None]) -> FakeLink:
        await asyncio.sleep(self.login_s)
        ask()
        self.attempts.append((asyncio.get_running_loop().time(), vmi))
        if self.bug is not None:
            raise self.bug
        outcome = self.script.popleft() if self.script else Accept()
        if isinstance(outcome, Hold):
            await outcome.go.wait()
        match outcome:
            case VmRedirError():
                raise outcome
            case Silence():
                guest = None
            case Accept(caps=caps):
                guest = self._new_guest(caps)
            case _:
                guest = self._new_guest(ALL_CAPS)
        link = FakeLink(vmi, listener, guest)
        self.links.append(link)
        if isinstance(outcome, DeadOnArrival):
            link.end()
        return link

    def _new_guest(self, caps: Cap) -> ModelGuest:
        self._guests += 1
        return ModelGuest(self._guests, caps, generation=0)
