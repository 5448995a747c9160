"""Our ends of the two sockets of a usb-host (docs/architecture.md)."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import socket
import sys
import termios
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from kubectl_vmredir.errors import DeviceLost, DeviceUnsafe, UsbError
from kubectl_vmredir.model import Danger, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubectl_vmredir.model import LocalDevice
    from kubectl_vmredir.service.ports import UsbHostSockets

logger = logging.getLogger(__name__)

READ_BUFFER_BYTES: Final = 256 * 1024
"""What is read from the usb-host at once, at most."""

SEND_BUFFER_BYTES: Final = 1 << 20
"""Asked of the kernel for the data socket, which may give less: it takes several transfers at
once then."""
HIGH_WATER_BYTES: Final = 512 * 1024
LOW_WATER_BYTES: Final = 128 * 1024
"""Of what the kernel does not take; above the one and until below the other no more is read from
the VM."""

CONTROL_LINE_BYTES: Final = 64 * 1024
"""A longer line on the control socket is no message: the usb-host is given up."""

CLAIM_TIMEOUT_S: Final = 30.0
"""How long a usb-host may take to start and to claim: on a busy machine that is seconds."""
LAST_WORDS_TIMEOUT_S: Final = 1.0
"""How long the data socket may outlast the device, or the control socket: what the usb-host said
before is on its way in there."""

HOST_STUCK_S: Final = 30.0
"""A usb-host that takes nothing of what waits for it for so long is taken for dead. It does not
wait for its device: what that has not taken yet is kept on its side."""
APPETITE_CHECK_S: Final = 5.0

RELEASE_TIMEOUT_S: Final = 5.0
"""How long the usb-host may take to give the device back before its sockets are dropped."""


class HostListener(Protocol):
    """Hears what comes from a usb-host; called in the event loop, must not block."""

    def host_received(self, data: memoryview) -> None:
        """Bytes came, at least one. The view is valid during the call only."""

    def host_writable(self, writable: bool) -> None:
        """The write buffer passed its high (False) or low (True) water mark."""

    def host_ended(self, reason: str) -> None:
        """The usb-host is gone, or its device; called once. The reason may be untrusted text."""


class _Data(asyncio.BufferedProtocol):
    """The data socket: bytes are read into one buffer, and handed on without a copy."""

    def __init__(self, host: UsbHost) -> None:
        self._host = host
        self._view = memoryview(bytearray(READ_BUFFER_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        self._host.data_received(self._view[:nbytes])

    def pause_writing(self) -> None:
        self._host.data_writable(False)

    def resume_writing(self) -> None:
        self._host.data_writable(True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.ended(str(exc) if exc else "the usb-host ended")


@dataclass(frozen=True, slots=True)
class _Claimed:
    drivers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Lost:
    reason: str


@dataclass(frozen=True, slots=True)
class _Failed:
    message: str


@dataclass(frozen=True, slots=True)
class _Unsafe:
    finding: Finding


_ControlEvent = _Claimed | _Lost | _Failed | _Unsafe


def parse_control_line(line: bytes | bytearray) -> _ControlEvent | None:
    """Read one line of a usb-host; None if it says nothing that we know.

    Raises:
        ValueError: If it is no JSON object, or no danger that we know.
    """
    match json.loads(line):
        case {"event": "claimed", "drivers": list() as drivers}:
            return _Claimed(tuple(str(driver) for driver in drivers))
        case {"event": "lost", "reason": str() as reason}:
            return _Lost(reason)
        case {"event": "error", "message": str() as message}:
            return _Failed(message)
        case {
            "event": "unsafe",
            "finding": {
                "danger": str() as danger,
                "message": str() as message,
                "hint": str() as hint,
            },
        }:
            return _Unsafe(Finding(Danger(danger), message, hint))
        case dict():
            return None
        case _:
            raise ValueError("not a JSON object")


class _Control(asyncio.Protocol):
    """The control socket: JSON lines, each way."""

    def __init__(self, host: UsbHost) -> None:
        self._host = host
        self._rest = bytearray()
        self._broken = False

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        for line in lines:
            try:
                event = parse_control_line(line)
            except ValueError:
                self._give_up("the usb-host said what is no message")
                return
            if event is not None:
                self._host.control_said(event)
        if len(rest) > CONTROL_LINE_BYTES:
            self._give_up("the usb-host said a line without end")

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.control_ended()

    def _give_up(self, reason: str) -> None:
        # Its end is still waited for: then the device is given back.
        self._broken = True
        self._rest.clear()
        self._host.give_up(reason)


class _Appetite:
    """Knows whether the usb-host takes what is written to it; costs nothing while nothing is.

    Args:
        data: The data socket.
        stuck: Called once, if it takes nothing for :data:`HOST_STUCK_S`.
    """

    def __init__(self, data: asyncio.Transport, stuck: Callable[[], None]) -> None:
        self._data = data
        self._stuck = stuck
        self._loop = asyncio.get_running_loop()
        self._written = 0
        self._taken = 0
        self._full_since: float | None = None
        self._next_look: asyncio.TimerHandle | None = None

    def written(self, size: int) -> None:
        """Take note of bytes that it is to take."""
        self._written += size
        if self._next_look is None:
            self._next_look = self._loop.call_later(APPETITE_CHECK_S, self._look)

    def forget(self) -> None:
        """Look no more."""
        if self._next_look is not None:
            self._next_look.cancel()

    def _look(self) -> None:
        self._next_look = None
        if self._data.is_closing() or not (waiting := self._waiting()):
            self._full_since = None
            return
        now = self._loop.time()
        taken = self._written - waiting
        # While we do not read what it says, it need not read what we say.
        if self._full_since is None or taken > self._taken or not self._data.is_reading():
            self._full_since = now
        self._taken = taken
        if now >= self._full_since + HOST_STUCK_S:
            self._stuck()
        else:
            self._next_look = self._loop.call_later(APPETITE_CHECK_S, self._look)

    def _waiting(self) -> int:
        """Return how many bytes it has not read; a few more than that, but 0 if it has read all."""
        queued = bytearray(4)
        fcntl.ioctl(self._data.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return int.from_bytes(queued, sys.byteorder) + self._data.get_write_buffer_size()


class UsbHost:
    """A running usb-host that has claimed its device.

    Attributes:
        drivers: Kernel drivers that the device was taken from, in order of its interfaces.

    Args:
        device: Its device.
        listener: Hears what comes from it.
    """

    def __init__(self, device: LocalDevice, listener: HostListener) -> None:
        self.drivers: tuple[str, ...] = ()
        self._device = device
        self._listener: HostListener | None = listener
        self._answered = asyncio.Event()
        self._refusal: UsbError | None = None
        self._trouble = ""
        self._control_ended = asyncio.Event()
        self._last_words: asyncio.TimerHandle | None = None
        self._data: asyncio.Transport | None = None
        self._control: asyncio.Transport | None = None
        self._appetite: _Appetite | None = None

    async def open(self, sockets: UsbHostSockets) -> None:
        """Take over the sockets, and wait until the device is claimed.

        Raises:
            DeviceUnsafe: If the device has become needed here.
            UsbError: If the usb-host cannot have the device. It is to be closed all the same.
        """
        loop = asyncio.get_running_loop()
        self._control, _ = await loop.create_connection(
            lambda: _Control(self), sock=sockets.control
        )
        sockets.data.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._data, _ = await loop.create_connection(lambda: _Data(self), sock=sockets.data)
        self._data.set_write_buffer_limits(HIGH_WATER_BYTES, LOW_WATER_BYTES)
        self._appetite = _Appetite(self._data, self._give_up_stuck)
        try:
            async with asyncio.timeout(CLAIM_TIMEOUT_S):
                await self._answered.wait()
        except TimeoutError:
            self._refusal = UsbError(f"the usb-host did not answer in {CLAIM_TIMEOUT_S:.0f} s")
        if self._refusal is not None:
            raise self._refusal

    def write(self, chunks: Sequence[memoryview | bytes]) -> None:
        """Queue bytes for the usb-host; the views may be reused after the call."""
        if self._data is None or self._appetite is None or self._data.is_closing():
            return
        for chunk in chunks:
            self._data.write(chunk)
            self._appetite.written(len(chunk))

    def read(self, enabled: bool) -> None:
        """Stop or go on reading from the usb-host."""
        if self._data is None or self._data.is_closing():
            return
        if enabled:
            self._data.resume_reading()
        else:
            self._data.pause_reading()

    async def close(self) -> None:
        """Have the device given back; bounded in time, safe to call again."""
        self._listener = None
        if self._last_words is not None:
            self._last_words.cancel()
        if self._appetite is not None:
            self._appetite.forget()
        if self._control is not None and not self._control.is_closing():
            self._control.write(b'{"request": "stop"}\n')
        if self._data is not None:
            self._data.close()
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT_S):
                await self._control_ended.wait()
        except TimeoutError:
            logger.warning("the usb-host did not end in %.0f s", RELEASE_TIMEOUT_S)
        finally:
            for transport in (self._data, self._control):
                if transport is not None:
                    transport.abort()

    # -- called by the protocols ------------------------------------------------------------

    def data_received(self, data: memoryview) -> None:
        """Hand on what the usb-host sent, unless closed."""
        if self._listener is not None:
            self._listener.host_received(data)

    def data_writable(self, writable: bool) -> None:
        """Hand on the state of the write buffer, unless closed."""
        if self._listener is not None:
            self._listener.host_writable(writable)

    def ended(self, reason: str) -> None:
        """End once, by the best reason that was given."""
        reason = self._trouble or reason
        self._refuse(DeviceLost(reason))
        if self._listener is not None:
            listener, self._listener = self._listener, None
            listener.host_ended(reason)

    def control_said(self, event: _ControlEvent) -> None:
        """Take in one message of the usb-host."""
        match event:
            case _Claimed(drivers=drivers):
                self.drivers = drivers
                self._answered.set()
            case _Lost(reason=reason):
                self._trouble = reason
                self._hear_out(reason)
            case _Failed(message=message):
                logger.warning("usb-host: %r", message)
                self._trouble = message
                self._refuse(UsbError(message))
            case _Unsafe(finding=finding):
                error = DeviceUnsafe(self._device, [finding])
                self._trouble = str(error)
                self._refuse(error)

    def control_ended(self) -> None:
        """Note that the usb-host has done its last."""
        self._control_ended.set()
        self._hear_out("the usb-host ended")

    def give_up(self, reason: str) -> None:
        """Hear no more of a usb-host that cannot be talked to, or has said its last."""
        self.ended(reason)
        if self._data is not None:
            self._data.close()

    def _give_up_stuck(self) -> None:
        self.give_up(f"the usb-host has taken nothing for {HOST_STUCK_S:.0f} s")

    def _hear_out(self, reason: str) -> None:
        """Have it over when the data socket ends, or after a while."""
        self._refuse(DeviceLost(self._trouble or reason))
        if self._last_words is None and self._listener is not None:
            loop = asyncio.get_running_loop()
            self._last_words = loop.call_later(LAST_WORDS_TIMEOUT_S, self.give_up, reason)

    def _refuse(self, error: UsbError) -> None:
        if not self._answered.is_set():
            self._refusal = error
            self._answered.set()
