"""Cuts a stream at packet boundaries, and only where something has to be taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOTHING: Final = memoryview(b"")


class Passage:
    """One direction of the stream on its way through.

    Each chunk is fed, then packets are taken out of it with :meth:`emit` (what comes before
    them) and :meth:`drop`, then it is closed: what nobody could decide about yet is copied and
    held. How much that can be is the guard's business. Offsets count the bytes of the sender's
    stream, as those of spans do.
    """

    def __init__(self) -> None:
        self._held = bytearray()  # what lies between _done and _start
        self._chunk = _NOTHING
        self._start = 0  # of the chunk
        self._end = 0  # of the chunk
        self._done = 0  # may lie ahead of what has come: the rest of a dropped packet

    @property
    def offset(self) -> int:
        """Bytes that have come."""
        return self._end

    @property
    def done(self) -> int:
        """Where the first byte is that is not decided about."""
        return self._done

    def feed(self, chunk: memoryview) -> None:
        """Take the next bytes of the stream."""
        self._chunk = chunk
        self._start = self._end
        self._end += len(chunk)

    def emit(self, to: int) -> Sequence[memoryview]:
        """Return what has come and is not decided about, up to the offset ``to``.

        ``to`` is where a packet starts or ends. A whole chunk is returned as the view it was.
        """
        done, start = self._done, self._start
        to = min(to, self._end)
        if to <= done or to <= start:
            return ()
        self._done = to
        if self._held:
            held, self._held = memoryview(self._held), bytearray()
            return held, self._chunk[: to - start]
        if done == start and to == self._end:
            return (self._chunk,)
        return (self._chunk[done - start : to - start],)

    def drop(self, to: int) -> None:
        """Pass over everything up to the offset ``to``, even where it has not come yet."""
        if to > self._done:
            self._done = to
            self._held.clear()

    def close(self, to: int) -> Sequence[memoryview]:
        """Return what :meth:`emit` does, and hold the rest of the chunk."""
        end = self._end
        if to >= end and self._done == self._start:  # the steady state: all of it, and no more
            pieces: Sequence[memoryview] = (self._chunk,)
            self._done = end
        else:
            pieces = self.emit(to)
            if self._done < end:
                self._held += self._chunk[max(self._done - self._start, 0) :]
        self._chunk = _NOTHING
        return pieces
