"""The guest program of the simulated guest: what ``image/init.sh`` is to the real one.

Reads a disk again and again, and says on the console what it saw, in the same words.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHUNK_BYTES: Final = 65536
_REPEATED_FACTS: Final = 6
_REPEATED_PASSES: Final = 2
"""Lines that are said again after each pass: the last ones, and those about passes apart."""


class DiskReader:
    """Reads one disk, known by its serial number, each time it is there.

    Args:
        serial: Plain text.
        write: Writes a line to the console.
    """

    def __init__(self, serial: str, write: Callable[[str], None]) -> None:
        self._serial = serial
        self._write = write
        self._said = 0
        self._facts: deque[str] = deque(maxlen=_REPEATED_FACTS)
        self._passes: deque[str] = deque(maxlen=_REPEATED_PASSES)
        self._pass = 0
        self._last_good: float | None = None
        self._broken = False
        self._size = 0
        self._started = 0.0
        self._errors = 0
        self._longest_gap_s = 0.0
        self._data = bytearray()

    def attached(self, node: str, size: int, now: float) -> None:
        """The disk is there."""
        self._size = size
        self._say(self._facts, {"event": "disk", "name": node, "bytes": size, "t": round(now, 3)})
        self._begin(now)

    def next_read(self) -> tuple[int, int]:
        """Return offset and length of the read to do now."""
        offset = len(self._data)
        return offset, min(CHUNK_BYTES, self._size - offset)

    def good(self, data: bytes, now: float) -> None:
        """A read went well."""
        gap_s = 0.0 if self._last_good is None else now - self._last_good
        if self._broken:
            self._say(self._facts, {"event": "gap", "ms": round(gap_s * 1000), "t": round(now, 3)})
            self._broken = False
        elif self._data:
            self._longest_gap_s = max(self._longest_gap_s, gap_s)
        self._last_good = now
        self._data += data
        if len(self._data) == self._size:
            self._end()
            self._begin(now)

    def bad(self, now: float) -> None:
        """A read failed, or the disk went away."""
        self._errors += 1
        self._broken = self._last_good is not None
        offset = len(self._data)
        fact = {"event": "error", "n": self._pass, "offset": offset, "t": round(now, 3)}
        self._say(self._facts, fact)

    def save(self) -> dict[str, Any]:
        """Return all that moves with the VM, as JSON."""
        return {
            "said": self._said,
            "facts": list(self._facts),
            "passes": list(self._passes),
            "pass": self._pass,
            "last_good": self._last_good,
            "broken": self._broken,
            "size": self._size,
            "started": self._started,
            "errors": self._errors,
            "longest_gap_s": self._longest_gap_s,
            "data": base64.b64encode(self._data).decode(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`save` was."""
        self._said = state["said"]
        self._facts.extend(state["facts"])
        self._passes.extend(state["passes"])
        self._pass = state["pass"]
        self._last_good = state["last_good"]
        self._broken = state["broken"]
        self._size = state["size"]
        self._started = state["started"]
        self._errors = state["errors"]
        self._longest_gap_s = state["longest_gap_s"]
        self._data += base64.b64decode(state["data"])

    def _begin(self, now: float) -> None:
        self._pass += 1
        self._started = now
        self._errors = 0
        self._longest_gap_s = 0.0
        self._data.clear()

    def _end(self) -> None:
        for line in (*self._facts, *self._passes):
            self._write(line)
        self._say(
            self._passes,
            {
                "event": "pass",
                "n": self._pass,
                "bytes": self._size,
                "sha256": hashlib.sha256(self._data).hexdigest(),
                "started": round(self._started, 3),
                "ended": round(self._last_good or 0.0, 3),
                "errors": self._errors,
                "max_gap_ms": round(self._longest_gap_s * 1000),
            },
        )

    def _say(self, remembered: deque[str], fact: dict[str, Any]) -> None:
        self._said += 1
        line = "@" + json.dumps({"seq": self._said, "serial": self._serial} | fact)
        remembered.append(line)
        self._write(line)
