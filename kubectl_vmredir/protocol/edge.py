"""What is said between us and the edge, the program beside QEMU that owns a slot's socket.

Source: docs/edge.md. A message is a header of 8 bytes (type, length; little-endian) and a payload.
Everything that an edge says is checked here for its form, and in :mod:`edge_session` for its
meaning: what runs in a pod is not trusted.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final, TypeVar

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError

VERSION: Final = 1
TOKEN_SIZE: Final = 16
MAX_PAYLOAD: Final = 64 << 10
"""Most bytes of a message to the edge."""
MAX_DATA: Final = 32 << 10
"""Most bytes of QEMU in one message of the edge."""
MAX_TEXT: Final = 4 << 10
"""Most bytes of text that are taken from a pod."""
MAX_WINDOW: Final = 16 << 20
MAX_WAIT_S: Final = 600.0
MAX_LINGER_S: Final = 3600

_HEADER: Final = struct.Struct("<II")
_MAGIC: Final = b"VMRE"
_HELLO: Final = struct.Struct("<4sHHIIB")
_OPEN: Final = struct.Struct("<16sIIB")
_RESUME: Final = struct.Struct("<16sQQ")
_REFUSED: Final = struct.Struct("<HH")
_CONSUMED: Final = struct.Struct("<QB")
_CLOSED: Final = struct.Struct("<QQBBH")
_OFFSET: Final = struct.Struct("<Q")
_FLAG: Final = struct.Struct("<B")
_TAKE: Final = 1
_LOCKSTEP: Final = 2

_E = TypeVar("_E", bound=enum.IntEnum)


class MessageType(enum.IntEnum):
    """First word of a header."""

    HELLO = 1
    OPEN = 2
    RESUME = 3
    RESUMED = 4
    OPENED = 5
    REFUSED = 6
    DATA = 7
    CONSUMED = 8
    ACK = 9
    LOCKSTEP = 10
    PING = 11
    PONG = 12
    CLOSE = 13
    CLOSED = 14
    FORGET = 15


class EdgePhase(enum.IntEnum):
    """What becomes of the session that an edge holds."""

    NONE = 0
    OPENING = 1
    OPEN = 2
    CLOSED = 3
    """QEMU's socket is closed; what was said last may still be asked for."""


class RefusalCode(enum.IntEnum):
    """Why an edge does not do what was asked for."""

    SLOT_TAKEN = 1
    """Somebody else is connected to QEMU's socket."""
    SLOT_QUEUE_FULL = 2
    SLOT_SILENT = 3
    """QEMU did not accept the connection in time."""
    SLOT_ERROR = 4
    """QEMU's socket cannot be reached; ``errno`` says why."""
    SESSION_HELD = 5
    """The edge has a session of another token."""
    SESSION_UNKNOWN = 6
    """The edge has no session of this token."""
    SESSION_OFFSETS = 7
    BROKEN_PROTOCOL = 8


class EndReason(enum.IntEnum):
    """How the connection to QEMU ended."""

    EOF = 0
    """QEMU had read everything."""
    RESET = 1
    """Something lay unread."""
    CLOSED_BY_US = 2
    ERROR = 3


# -- what an edge says ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Greeting:
    """HELLO, first on each tunnel.

    Attributes:
        chunk: Most bytes that QEMU may leave unread in lockstep.
        window: Most bytes of ours that QEMU has not read; one more breaks the protocol.
        max_payload: Most bytes of a message to it.
        phase: Of the session that it holds.
    """

    chunk: int
    window: int
    max_payload: int
    phase: EdgePhase


@dataclass(frozen=True, slots=True)
class Resumed:
    """The session goes on; the edge has got ``received`` of our bytes."""

    received: int


@dataclass(frozen=True, slots=True)
class Opened:
    """The edge is connected to QEMU. Said again after :class:`Resumed`.

    Attributes:
        accepted: Whether it was seen that QEMU has accepted the connection; else nobody knows.
    """

    accepted: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """The edge does not do it.

    Attributes:
        code: Why.
        errno: Of the pod's kernel, 0 if there is none.
        text: Untrusted.
    """

    code: RefusalCode
    errno: int
    text: str


@dataclass(frozen=True, slots=True)
class QemuSaid:
    """DATA: bytes of QEMU's, at least one."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Consumed:
    """QEMU has read so many of our bytes, at least.

    Attributes:
        offset: Counted from the start of the session.
        lockstep: Whether at most one chunk is unread from here on.
    """

    offset: int
    lockstep: bool


@dataclass(frozen=True, slots=True)
class Pong:
    """The value of the newest ping."""

    value: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection to QEMU is gone; comes after all of QEMU's bytes.

    Attributes:
        consumed: So many of our bytes were read, if ``exact``; at least so many, if not.
        received: So many bytes QEMU has said.
        reason: How it ended.
        exact: Whether ``consumed`` is right to the byte.
        errno: Of the pod's kernel, 0 if there is none.
    """

    consumed: int
    received: int
    reason: EndReason
    exact: bool
    errno: int


EdgeMessage = Greeting | Resumed | Opened | Refused | QemuSaid | Consumed | Pong | Closed


# -- what we say ----------------------------------------------------------------------------


def encode_open(
    token: bytes, *, wait_s: float, linger_s: int, take: bool = False, lockstep: bool = False
) -> bytes:
    """Return the message that begins a session.

    Args:
        token: Names the session; 16 bytes that nobody can guess.
        wait_s: How long to wait for QEMU's socket, in seconds.
        linger_s: How long the edge holds it without a tunnel, in seconds.
        take: Whether to end a session of somebody else's.
        lockstep: Whether to begin in lockstep.

    Raises:
        LocalProtocolError: If something is out of bounds.
    """
    if (
        len(token) != TOKEN_SIZE
        or not 0 <= wait_s <= MAX_WAIT_S
        or not 0 <= linger_s <= MAX_LINGER_S
    ):
        raise LocalProtocolError("edge: what is to be opened is out of bounds")
    flags = _TAKE * take | _LOCKSTEP * lockstep
    return _message(MessageType.OPEN, _OPEN.pack(token, round(wait_s * 1000), linger_s, flags))


def encode_resume(token: bytes, *, sent: int, received: int) -> bytes:
    """Return the message that goes on with a session: what we sent and got in it so far."""
    return _message(MessageType.RESUME, _RESUME.pack(token, sent, received))


def encode_data_header(size: int) -> bytes:
    """Return what goes before ``size`` bytes for QEMU.

    Raises:
        LocalProtocolError: If no message has that size.
    """
    if not 0 < size <= MAX_PAYLOAD:
        raise LocalProtocolError(f"edge: {size} bytes in one message")
    return _HEADER.pack(MessageType.DATA, size)


def encode_ack(offset: int) -> bytes:
    """Return the message that says how many bytes of QEMU's have come."""
    return _message(MessageType.ACK, _OFFSET.pack(offset))


def encode_lockstep(*, on: bool) -> bytes:
    """Return the message that turns lockstep on or off."""
    return _message(MessageType.LOCKSTEP, _FLAG.pack(on))


def encode_ping(value: int) -> bytes:
    """Return a ping with an unsigned 64-bit value."""
    return _message(MessageType.PING, _OFFSET.pack(value))


def encode_close() -> bytes:
    """Return the message that has QEMU's socket closed; Closed answers it."""
    return _message(MessageType.CLOSE)


def encode_forget() -> bytes:
    """Return the message that ends a session that is closed; it cannot be resumed then."""
    return _message(MessageType.FORGET)


def _message(kind: MessageType, payload: bytes = b"") -> bytes:
    return _HEADER.pack(kind, len(payload)) + payload


# -- reading --------------------------------------------------------------------------------


class EdgeParser:
    """Cuts what comes through one tunnel into messages.

    After a fault it stays broken: it cannot know where the next message starts.
    """

    def __init__(self) -> None:
        self._pending = bytearray()  # a message at most, beside the chunk that is being read
        self._fault: str | None = None

    def feed(self, chunk: bytes | memoryview) -> list[EdgeMessage]:
        """Take the next bytes and return the messages that became whole.

        What comes before a fault in the same chunk is not given out.

        Raises:
            RemoteProtocolError: If an edge does not say such things, now or before.
        """
        if self._fault is not None:
            raise RemoteProtocolError(self._fault)
        try:
            return self._read(chunk)
        except RemoteProtocolError as error:
            self._fault = str(error)
            raise

    def _read(self, chunk: bytes | memoryview) -> list[EdgeMessage]:
        self._pending += chunk
        messages: list[EdgeMessage] = []
        position = 0
        with memoryview(self._pending) as view:
            while len(view) - position >= _HEADER.size:
                kind, size = _HEADER.unpack_from(view, position)
                _check_size(kind, size)
                begin = position + _HEADER.size
                if len(view) < begin + size:
                    break
                position = begin + size
                messages.append(_decode(MessageType(kind), bytes(view[begin:position])))
        del self._pending[:position]
        return messages


_SIZES: Final = {
    MessageType.HELLO: (_HELLO.size, _HELLO.size),
    MessageType.RESUMED: (_OFFSET.size, _OFFSET.size),
    MessageType.OPENED: (_FLAG.size, _FLAG.size),
    MessageType.REFUSED: (_REFUSED.size, _REFUSED.size + MAX_TEXT),
    MessageType.DATA: (1, MAX_DATA),
    MessageType.CONSUMED: (_CONSUMED.size, _CONSUMED.size),
    MessageType.PONG: (_OFFSET.size, _OFFSET.size),
    MessageType.CLOSED: (_CLOSED.size, _CLOSED.size),
}
"""Smallest and largest payload of each message that an edge says."""


def _check_size(kind: int, size: int) -> None:
    if kind not in _SIZES:
        raise RemoteProtocolError(f"edge: message of type {kind}")
    smallest, largest = _SIZES[MessageType(kind)]
    if not smallest <= size <= largest:
        raise RemoteProtocolError(f"edge: {MessageType(kind).name} of {size} bytes")


def _decode(kind: MessageType, payload: bytes) -> EdgeMessage:
    match kind:
        case MessageType.DATA:
            return QemuSaid(payload)
        case MessageType.CONSUMED:
            offset, lockstep = _CONSUMED.unpack(payload)
            return Consumed(offset, _claim(lockstep))
        case MessageType.PONG:
            return Pong(*_OFFSET.unpack(payload))
        case MessageType.HELLO:
            return _greeting(payload)
        case MessageType.RESUMED:
            return Resumed(*_OFFSET.unpack(payload))
        case MessageType.OPENED:
            return Opened(_claim(*_FLAG.unpack(payload)))
        case MessageType.REFUSED:
            code, errno = _REFUSED.unpack_from(payload)
            text = payload[_REFUSED.size :].decode(errors="replace")
            return Refused(_known(RefusalCode, code), errno, text)
        case _:  # of those in _SIZES only CLOSED is left
            consumed, received, reason, exact, errno = _CLOSED.unpack(payload)
            return Closed(consumed, received, _known(EndReason, reason), _claim(exact), errno)


def _greeting(payload: bytes) -> Greeting:
    magic, version, chunk, window, max_payload, phase = _HELLO.unpack(payload)
    if magic != _MAGIC:
        raise RemoteProtocolError("edge: something else answers in its place")
    if version != VERSION:
        raise RemoteProtocolError(f"edge: it speaks version {version} of the protocol")
    if not 0 < chunk <= MAX_PAYLOAD or not 0 < window <= MAX_WINDOW or not max_payload > 0:
        raise RemoteProtocolError("edge: its limits are out of bounds")
    return Greeting(chunk, window, min(max_payload, MAX_PAYLOAD), _known(EdgePhase, phase))


def _claim(value: int) -> bool:
    if value > 1:
        raise RemoteProtocolError(f"edge: {value} for yes or no")
    return value == 1


def _known(kind: type[_E], value: int) -> _E:
    try:
        return kind(value)
    except ValueError as exc:
        raise RemoteProtocolError(f"edge: {kind.__name__} {value}") from exc
