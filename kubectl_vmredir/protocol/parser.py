"""Bytes to whole packets, for one direction.

For whoever has to understand packets: devices and guests of the lab, and continuity while it
splices. The data path in the steady state uses :class:`SpanTracker` instead, which copies
nothing; the parser asks the same tracker where packets are and whether they may be there.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kubectl_vmredir.protocol.constants import NO_CAPS, Cap, Side
from kubectl_vmredir.protocol.packets import Header, Packet, decode_body
from kubectl_vmredir.protocol.spans import SpanTracker

if TYPE_CHECKING:
    from kubectl_vmredir.protocol.spans import Span


class Parser:
    """Parses the stream of one sender.

    Holds one unfinished packet at most, which the bounds of :mod:`layout` keep small. What
    comes before a fault in the same chunk is not given out; after a fault the parser stays
    broken.

    Args:
        sender: Who sends the stream.
        own_caps: Capabilities in the hello of the other direction, if they are known yet.
    """

    def __init__(self, sender: Side, *, own_caps: Cap | None = None) -> None:
        self._tracker = SpanTracker(sender, own_caps=own_caps)
        self._buffer = bytearray()  # from the end of the last packet that was given out
        self._spans: deque[Span] = deque()  # of packets that were not given out yet

    @property
    def own_caps(self) -> Cap | None:
        """Capabilities in the hello of the other direction; to be set before it is answered."""
        return self._tracker.own_caps

    @own_caps.setter
    def own_caps(self, own_caps: Cap) -> None:
        self._tracker.own_caps = own_caps

    @property
    def caps(self) -> Cap | None:
        """The agreed capabilities; None until both hellos are known."""
        return self._tracker.caps

    def feed(self, data: bytes | memoryview) -> list[tuple[Header, Packet]]:
        """Take the next bytes of the stream and return the packets that became whole.

        Raises:
            RemoteProtocolError: If the sender broke the protocol, now or before.
        """
        self._spans.extend(self._tracker.feed(data))
        start = self._tracker.offset - len(data) - len(self._buffer)
        self._buffer += data
        packets: list[tuple[Header, Packet]] = []
        end = start
        while self._spans and self._spans[0].end <= self._tracker.offset:
            span = self._spans.popleft()
            end = span.end
            body = self._buffer[end - span.length - start : end - start]
            header = Header(span.type, span.length, span.id)
            caps = self._tracker.caps or NO_CAPS
            packets.append((header, decode_body(span.type, bytes(body), caps)))
        del self._buffer[: end - start]
        return packets
