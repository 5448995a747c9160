"""Our side of a session with an edge: what was sent, consumed and received, over torn tunnels.

Does no I/O. The owner opens tunnels, calls :meth:`EdgeSession.tunnel_opened`, feeds what comes to
:meth:`EdgeSession.receive`, and writes what :meth:`EdgeSession.output` returns::

    OPENING --Opened--> OPEN --Closed--> CLOSED
       `--Refused--> REFUSED

A tunnel that ends changes nothing: the next one goes on where it stood (docs/edge.md). A
:class:`RemoteProtocolError` means that the edge cannot be believed any more: close, and go warm.
"""

from __future__ import annotations

import enum
from typing import Final

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.model import Boundary, Exact, Unknown
from kubectl_vmredir.protocol.edge import (
    Closed,
    Consumed,
    EdgeMessage,
    EdgeParser,
    EndReason,
    Greeting,
    Opened,
    Pong,
    QemuSaid,
    RefusalCode,
    Refused,
    Resumed,
    encode_ack,
    encode_close,
    encode_data_header,
    encode_forget,
    encode_lockstep,
    encode_open,
    encode_ping,
    encode_resume,
)

ACK_BYTES: Final = 64 << 10
"""Bytes of QEMU's that come before they are acknowledged: a small part of what an edge keeps."""
DATA_BYTES: Final = 32 << 10
"""Most bytes in one message of ours."""

_OF_A_SLOT: Final = frozenset(
    {
        RefusalCode.SLOT_TAKEN,
        RefusalCode.SLOT_QUEUE_FULL,
        RefusalCode.SLOT_SILENT,
        RefusalCode.SLOT_ERROR,
    }
)


class SessionState(enum.Enum):
    """Where a session stands, as far as we were told."""

    OPENING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()
    REFUSED = enum.auto()


class EdgeSession:
    """One connection to one QEMU through an edge.

    Args:
        token: Names the session; 16 bytes that nobody can guess.
        wait_s: How long the edge waits for QEMU's socket, in seconds.
        linger_s: How long it holds the socket without a tunnel, in seconds.
        take: Whether it shall end somebody else's session for it.
        lockstep: Whether to begin in lockstep.
    """

    def __init__(
        self,
        token: bytes,
        *,
        wait_s: float,
        linger_s: int,
        take: bool = False,
        lockstep: bool = False,
    ) -> None:
        self._token = token
        self._open = encode_open(
            token, wait_s=wait_s, linger_s=linger_s, take=take, lockstep=lockstep
        )
        self._state = SessionState.OPENING
        self._parser = EdgeParser()
        self._greeting: Greeting | None = None  # of this tunnel
        self._opened_before = False  # whether OPEN was said on an earlier tunnel
        self._resuming = False
        self._unconsumed = bytearray()  # from _consumed on: sent and not sent
        self._consumed = 0
        self._sent = 0  # on this tunnel
        self._most_sent = 0  # on any tunnel
        self._received = 0
        self._acked = 0
        self._boundary: Boundary | None = None
        self._in_lockstep = lockstep
        self._lockstep_proven = False
        self._closing = False
        self._control = bytearray()

    @property
    def state(self) -> SessionState:
        """Where it stands."""
        return self._state

    @property
    def resuming(self) -> bool:
        """Whether a new tunnel has not been told yet that the session goes on."""
        return self._resuming

    @property
    def queued(self) -> int:
        """Bytes handed to :meth:`send` so far: the offset that boundaries count in."""
        return self._consumed + len(self._unconsumed)

    @property
    def consumed(self) -> int:
        """Bytes of ours that QEMU is known to have read."""
        return self._consumed

    @property
    def received(self) -> int:
        """Bytes of QEMU's that have come."""
        return self._received

    @property
    def boundary(self) -> Boundary | None:
        """Where QEMU stopped reading; None while it may go on."""
        return self._boundary

    @property
    def lockstep_proven(self) -> bool:
        """Whether the edge has said that at most one chunk is unread from here on."""
        return self._lockstep_proven

    def unconsumed(self) -> bytes:
        """Return what QEMU is not known to have read: what its successor has to be given."""
        return bytes(self._unconsumed)

    # -- what the owner wants -----------------------------------------------------------------

    def tunnel_opened(self) -> None:
        """Begin with a new tunnel: the old one, if there was one, is gone."""
        self._parser = EdgeParser()
        self._greeting = None
        self._resuming = self._opened_before
        self._control.clear()
        if self._opened_before:
            self._control += encode_resume(
                self._token, sent=self._most_sent, received=self._received
            )
            self._acked = self._received  # RESUME says so
            # What was asked for on the old tunnel may be lost.
            self._control += encode_lockstep(on=self._in_lockstep)
            if self._closing:
                self._control += encode_close()
        else:
            self._control += self._open
            self._opened_before = True

    def send(self, data: bytes | memoryview) -> None:
        """Queue bytes for QEMU. How much is queued at most is for the caller to bound."""
        self._unconsumed += data

    def lockstep(self, *, on: bool) -> None:
        """Turn lockstep on or off; :attr:`lockstep_proven` tells when it is."""
        self._in_lockstep = on
        self._lockstep_proven = False
        self._control += encode_lockstep(on=on)

    def ping(self, value: int) -> None:
        """Send a ping; of several that are under way only the newest is answered."""
        self._control += encode_ping(value)

    def close(self) -> None:
        """Have QEMU's socket closed; the boundary comes with Closed.

        That is exact only if QEMU has stopped reading: if its VM has stopped.
        """
        self._closing = True
        self._control += encode_close()

    def forget(self) -> None:
        """End a session that is closed: the edge needs to keep nothing of it.

        Raises:
            LocalProtocolError: If it is not.
        """
        if self._state is not SessionState.CLOSED:
            raise LocalProtocolError(f"edge: forget a session which is {self._state.name}")
        self._control += encode_forget()

    def output(self) -> bytes:
        """Return what is to be written to the tunnel now; empty if there is nothing."""
        written = bytes(self._control)
        self._control.clear()
        if self._received - self._acked >= ACK_BYTES:
            self._acked = self._received
            written += encode_ack(self._acked)
        return written + self._data()

    # -- what the edge says -------------------------------------------------------------------

    def receive(self, chunk: bytes | memoryview) -> list[EdgeMessage]:
        """Take what came through the tunnel; return the news, in order.

        Greeting, Resumed and a repeated Opened are no news.

        Raises:
            RemoteProtocolError: If what the edge says cannot be; nothing of the chunk is given out.
        """
        return [message for message in self._parser.feed(chunk) if self._hear(message)]

    def _hear(self, message: EdgeMessage) -> bool:
        """Check a message and take note of it; return whether it is news."""
        if isinstance(message, Greeting) is not (self._greeting is None):
            raise RemoteProtocolError(f"edge: {type(message).__name__} in the wrong place")
        match message:
            case Greeting():
                self._greeting = message
                return False
            case Refused():
                self._hear_refused(message)
                return True
            case Pong():
                return True
            case Resumed(received=received):
                self._hear_resumed(received)
                return False
            case Opened():
                return self._hear_opened()
            case QemuSaid(data=data):
                self._expect(message, SessionState.OPEN)
                self._received += len(data)
                return True
            case Consumed(offset=offset, lockstep=lockstep):
                self._expect(message, SessionState.OPEN)
                self._forget_until(offset)
                self._lockstep_proven = lockstep and self._in_lockstep
                return True
            case _:  # Closed
                self._expect(message, SessionState.OPEN, SessionState.OPENING)
                self._hear_closed(message)
                return True

    def _expect(self, message: EdgeMessage, *states: SessionState) -> None:
        if self._state not in states or self._resuming:
            raise RemoteProtocolError(
                f"edge: {type(message).__name__} while the session is {self._state.name}"
            )

    def _hear_refused(self, refused: Refused) -> None:
        """Take a refusal; what is said of a session that is open concerns this tunnel only."""
        if self._state is not SessionState.OPENING:
            if refused.code in _OF_A_SLOT:
                raise RemoteProtocolError(f"edge: {refused.code.name} of an open slot")
            return
        self._state = SessionState.REFUSED

    def _hear_resumed(self, received: int) -> None:
        if not self._resuming:
            raise RemoteProtocolError("edge: resumed what was not asked for")
        if not self._consumed <= received <= self._most_sent:
            raise RemoteProtocolError(
                f"edge: got {received} bytes of {self._most_sent}, {self._consumed} are consumed"
            )
        self._resuming = False
        self._sent = received

    def _hear_opened(self) -> bool:
        if self._resuming or self._state is SessionState.REFUSED:
            raise RemoteProtocolError("edge: opened what was not asked for")
        news = self._state is SessionState.OPENING
        if news:
            self._state = SessionState.OPEN
        return news

    def _hear_closed(self, closed: Closed) -> None:
        if closed.received != self._received:
            raise RemoteProtocolError(
                f"edge: QEMU said {closed.received} bytes, {self._received} have come"
            )
        if closed.exact and closed.reason is EndReason.ERROR:
            raise RemoteProtocolError("edge: an exact boundary after an error")
        self._forget_until(closed.consumed)
        self._boundary = Exact(closed.consumed) if closed.exact else Unknown()
        self._state = SessionState.CLOSED

    def _forget_until(self, offset: int) -> None:
        if not self._consumed <= offset <= self._most_sent:
            raise RemoteProtocolError(
                f"edge: consumed {offset} bytes after {self._consumed}, {self._most_sent} were sent"
            )
        del self._unconsumed[: offset - self._consumed]
        self._consumed = offset

    # -- data ---------------------------------------------------------------------------------

    def _data(self) -> bytes:
        """Return as much as the window allows, in messages."""
        if self._state is not SessionState.OPEN or self._resuming or self._greeting is None:
            return b""
        end = min(self.queued, self._consumed + self._greeting.window)
        largest = min(DATA_BYTES, self._greeting.max_payload)
        pieces: list[bytes | bytearray] = []
        while self._sent < end:
            size = min(end - self._sent, largest)
            begin = self._sent - self._consumed
            pieces += [encode_data_header(size), self._unconsumed[begin : begin + size]]
            self._sent += size
        self._most_sent = max(self._most_sent, self._sent)
        return b"".join(pieces)
