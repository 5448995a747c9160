"""Reads what a guest of the lab says on its console.

The guest program (``image/init.sh``, or the simulated one) prints one JSON object per fact with
an ``@`` in front; the kernel prints its own lines in between, sometimes in the middle of one.
A reader loses bytes while a VM moves: a torn line is dropped, and comes again, since the guest
repeats its last lines and numbers them.
"""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kubectl_vmredir.model import JsonValue


@dataclass(frozen=True, slots=True)
class Ready:
    """The guest has booted.

    Attributes:
        kernel: Version of its kernel.
        t: Uptime in seconds, like all times of the guest.
    """

    kernel: str
    t: float


@dataclass(frozen=True, slots=True)
class DiskSeen:
    """A USB disk was plugged in.

    Attributes:
        serial: Its serial number; untrusted text.
        name: Of the block device.
        size: In bytes.
        t: When.
    """

    serial: str
    name: str
    size: int
    t: float


@dataclass(frozen=True, slots=True)
class PassDone:
    """The whole disk was read, directly (O_DIRECT), and hashed.

    Attributes:
        serial: Which disk.
        number: Counts passes of this disk, those that did not reach the end as well.
        size: Bytes read.
        sha256: Of what was read, in hex.
        started: When the pass began.
        ended: When the last read ended.
        errors: Reads that failed and were done again.
        max_gap_ms: Longest time between two good reads of this pass without a fault between.
    """

    serial: str
    number: int
    size: int
    sha256: str
    started: float
    ended: float
    errors: int
    max_gap_ms: int


@dataclass(frozen=True, slots=True)
class Gap:
    """An interruption is over: ``guest_gap_ms`` of docs/migration.md.

    Attributes:
        serial: Which disk.
        milliseconds: From the last good read before it to the first after it.
        t: When the first good read ended.
    """

    serial: str
    milliseconds: int
    t: float


@dataclass(frozen=True, slots=True)
class ReadError:
    """A read failed.

    Attributes:
        serial: Which disk.
        number: In which pass.
        offset: Where, in bytes.
        t: When.
    """

    serial: str
    number: int
    offset: int
    t: float


@dataclass(frozen=True, slots=True)
class Echoed:
    """A serial adapter was plugged in, and a line sent through it.

    Attributes:
        port: Name of its terminal.
        right: Whether the line came back as it was.
        t: When.
    """

    port: str
    right: bool
    t: float


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The guest's kernel saw a USB device go.

    Attributes:
        t: When, as the kernel's log has it.
        port: Where it was, for instance ``1-1``.
    """

    t: float
    port: str


@dataclass(frozen=True, slots=True)
class KernelLine:
    """Another line of the kernel's log."""

    t: float
    text: str


Fact = Ready | DiskSeen | PassDone | Gap | ReadError | Echoed | Disconnect | KernelLine

_MAX_LINE_BYTES: Final = 4096
"""Longer lines are cut; what the guest says is far shorter."""
_REMEMBERED: Final = 256
"""Numbered lines that are known again when they are repeated."""

# Where a line of the guest program or of the kernel begins.
_START: Final = re.compile(r"@(?=\{)|\[ *(\d+\.\d+)\] ")
_DISCONNECT: Final = re.compile(r"usb (\S+): USB disconnect, ")


class ConsoleReader:
    """Turns bytes of a console into facts, each told once. The bytes are untrusted."""

    def __init__(self) -> None:
        self._rest = b""
        self._seen: deque[tuple[str, int]] = deque(maxlen=_REMEMBERED)

    def feed(self, data: bytes) -> list[Fact]:
        """Take bytes and return the facts in them, in the order of the console.

        A fact that was lost once comes later, with an older time.
        """
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_MAX_LINE_BYTES:]
        return [fact for line in lines for fact in self._line(line)]

    def _line(self, line: bytes) -> Iterator[Fact]:
        text = line[:_MAX_LINE_BYTES].decode("ascii", errors="replace").rstrip("\r")
        starts = list(_START.finditer(text))
        for start, following in zip_longest(starts, starts[1:]):
            part = text[start.end() : following and following.start()]
            if start[1] is not None:
                yield _kernel_line(float(start[1]), part)
            elif (fact := self._spoken(part)) is not None:
                yield fact

    def _spoken(self, text: str) -> Fact | None:
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return None
        match message:
            case {"event": "ready", "kernel": str(kernel), "t": float(t)}:
                self._seen.clear()
                return Ready(kernel, t)
            case {"event": "echo", "port": str(port), "right": bool(right), "t": float(t)}:
                return Echoed(port, right, t)
            case {"serial": str(serial), "seq": int(seq)} if (serial, seq) not in self._seen:
                fact = _disk_fact(serial, message)
                if fact is not None:
                    self._seen.append((serial, seq))
                return fact
            case _:
                return None


def _disk_fact(serial: str, message: Mapping[str, JsonValue]) -> Fact | None:
    match message:
        case {"event": "disk", "name": str(name), "bytes": int(size), "t": float(t)}:
            return DiskSeen(serial, name, size, t)
        case {
            "event": "pass",
            "n": int(number),
            "bytes": int(size),
            "sha256": str(sha256),
            "started": float(started),
            "ended": float(ended),
            "errors": int(errors),
            "max_gap_ms": int(max_gap_ms),
        }:
            return PassDone(serial, number, size, sha256, started, ended, errors, max_gap_ms)
        case {"event": "gap", "ms": int(milliseconds), "t": float(t)}:
            return Gap(serial, milliseconds, t)
        case {"event": "error", "n": int(number), "offset": int(offset), "t": float(t)}:
            return ReadError(serial, number, offset, t)
        case _:
            return None


def _kernel_line(t: float, text: str) -> Disconnect | KernelLine:
    if found := _DISCONNECT.match(text):
        return Disconnect(t, found[1])
    return KernelLine(t, text)
