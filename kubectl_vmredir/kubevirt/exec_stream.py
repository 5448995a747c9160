"""A command in a pod as streams: the channels of ``pods/exec`` over one websocket.

Sources: Kubernetes, staging/src/k8s.io/apimachinery/pkg/util/remotecommand (constants.go) and
kubelet's CRI streaming; docs/facts/exec.md. Each message begins with the number of its channel.
``v5.channel.k8s.io`` lets us close one, ``v4`` does not. What a command says with its exit status
cannot be trusted: ``v5`` says ``Success`` when the node's server dies.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import picows

from kubectl_vmredir.k8s.objects import printable
from kubectl_vmredir.kubevirt.stream import Websocket

if TYPE_CHECKING:
    from kubectl_vmredir.errors import VmRedirError
    from kubectl_vmredir.kubevirt.stream import StreamListener

V5: Final = "v5.channel.k8s.io"
V4: Final = "v4.channel.k8s.io"
SUBPROTOCOLS: Final = (V5, V4)
MAX_STDERR_BYTES: Final = 4 << 10
MAX_STATUS_BYTES: Final = 64 << 10

_STDIN: Final = b"\x00"
_STDOUT: Final = 1
_STDERR: Final = 2
_STATUS: Final = 3
_CLOSE_STDIN: Final = b"\xff\x00"
_MAX_MESSAGE_BYTES: Final = 32 << 10
"""As what the node's server reads at once."""
_BINARY: Final = picows.WSMsgType.BINARY
_CONTINUATION: Final = picows.WSMsgType.CONTINUATION
_TEXT: Final = picows.WSMsgType.TEXT


@dataclass(frozen=True, slots=True)
class ExecStatus:
    """What the API server says of a command that has ended; untrusted.

    Attributes:
        succeeded: Whether it says that it exited with 0. No proof that it did.
        exit_code: Where it says one other than 0.
        message: One clause.
    """

    succeeded: bool
    exit_code: int | None
    message: str

    @classmethod
    def parse(cls, body: bytes) -> ExecStatus:
        """Read a Status; one that makes no sense is a failure."""
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        match found:
            case {"status": "Success"}:
                return cls(True, None, "")
            case {"status": "Failure", "details": {"causes": [*causes]}, "message": str(message)}:
                return cls(False, _exit_code(causes), printable(message))
            case {"message": str(message)}:
                return cls(False, None, printable(message))
            case _:
                return cls(False, None, printable(body.decode(errors="replace")))


def _exit_code(causes: list[object]) -> int | None:
    for cause in causes:
        match cause:
            case {"reason": "ExitCode", "message": str(text)} if text.isdecimal():
                return int(text[:3])
    return None


class ExecListener(Protocol):
    """Hears what a command says; called in the event loop, must not block or raise."""

    def exec_output(self, data: memoryview) -> None:
        """Standard output, at least one byte. The view is valid during the call only."""

    def exec_complained(self, complaint: str) -> None:
        """Standard error has grown: the beginning of it, up to a limit; untrusted."""

    def exec_writable(self, writable: bool) -> None:
        """The write buffer passed its high (False) or low (True) water mark."""

    def exec_pong(self, round_trip_s: float) -> None:
        """The API server has answered a ping: that says nothing of the pod."""

    def exec_ended(self, cause: VmRedirError, status: ExecStatus | None) -> None:
        """It is over, whoever ended it; called once, and nothing after it.

        Args:
            cause: How the websocket ended.
            status: What was said of the command; None if nothing was.
        """


class MessageWebsocket(Websocket):
    """A websocket whose messages matter: hands on each frame, led by its message's first byte."""

    def __init__(self, listener: StreamListener) -> None:
        super().__init__(listener)
        self._lead = b""  # of the message that is being read
        self._skipping = False

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """See :meth:`picows.WSListener.on_ws_frame`."""
        kind = frame.msg_type
        if kind is _BINARY:
            self._skipping = False
            self._lead = b""
        elif kind is _TEXT:
            self._skipping = True
        elif kind is not _CONTINUATION:
            self._control(transport, kind, frame)
            return
        if self._skipping or frame.payload_size == 0:
            return
        payload = frame.get_payload_as_memoryview()
        if self._lead:
            self._hand_on(memoryview(self._lead + bytes(payload)))
        else:
            self._lead = bytes(payload[:1])
            self._hand_on(payload)


class ExecStream:
    """A command in a pod, open for as long as it runs.

    Only its owner closes it. Losing it closes the command's standard input and does nothing else
    to it: whatever does not read that lives on.
    """

    def __init__(self, websocket: Websocket) -> None:
        self._websocket = websocket

    @property
    def half_closes(self) -> bool:
        """Whether standard input can be closed by itself."""
        return self._websocket.subprotocol == V5

    def send(self, data: bytes | memoryview) -> None:
        """Queue bytes for standard input; dropped after the end."""
        for begin in range(0, len(data), _MAX_MESSAGE_BYTES):
            piece = data[begin : begin + _MAX_MESSAGE_BYTES]
            self._websocket.send(b"".join((_STDIN, piece)))

    def close_stdin(self) -> None:
        """Close standard input; nothing happens where :attr:`half_closes` says so."""
        if self.half_closes:
            self._websocket.send(_CLOSE_STDIN)

    def ping(self) -> None:
        """Ask the API server for a sign of life."""
        self._websocket.ping()

    def pause_reading(self) -> None:
        """Stop the output until :meth:`resume_reading`; the command gets to feel it."""
        self._websocket.pause_reading()

    def resume_reading(self) -> None:
        """Undo :meth:`pause_reading`."""
        self._websocket.resume_reading()

    async def close(self) -> None:
        """End it; bounded in time, safe to call again."""
        await self._websocket.close()


class ExecEars:
    """Tells an exec's listener what a websocket's listener hears."""

    def __init__(self, listener: ExecListener) -> None:
        self.writable = listener.exec_writable
        self.pong = listener.exec_pong
        self._listener = listener
        self._stderr = bytearray()
        self._status = bytearray()

    def received(self, data: memoryview) -> None:
        """Sort a piece of a message by its channel; unknown channels are for later versions."""
        channel, payload = data[0], data[1:]
        if channel == _STDOUT:
            if payload:  # the first message is empty
                self._listener.exec_output(payload)
        elif channel == _STDERR:
            if more := payload[: MAX_STDERR_BYTES - len(self._stderr)]:
                self._stderr += more
                self._listener.exec_complained(self._stderr.decode(errors="replace"))
        elif channel == _STATUS:
            self._status += payload[: MAX_STATUS_BYTES - len(self._status)]

    def ended(self, cause: VmRedirError) -> None:
        """See :class:`~kubectl_vmredir.kubevirt.stream.StreamListener`."""
        status = ExecStatus.parse(bytes(self._status)) if self._status else None
        self._listener.exec_ended(cause, status)
