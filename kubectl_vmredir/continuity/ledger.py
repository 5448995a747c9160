"""The requests that a usb-host has not answered.

A request and its answer have the same id, and packet types and an endpoint that belong
together: that is a *lane*. Ids are no names: QEMU takes the address of a TRB, and uses it
again as the ring wraps, directly after a cancel, or (interrupt out, which it does not wait
for) even before the answer. So a lane is a queue, and an answer belongs to the oldest
request of its id there: libusbredirhost answers a cancel at once, before it reads the next
request of the same id.

The order matters to QEMU: it aborts when requests of one bulk endpoint complete out of turn
(``usb_packet_complete_one``), unless it has cancelled those before, or the endpoint has
streams. Such an answer is a violation here.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.protocol.constants import PacketType
from kubectl_vmredir.protocol.spans import use

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kubectl_vmredir.protocol.spans import Span

MAX_OPEN: Final = 1024
"""Most requests in flight at once."""

MAX_IN_FLIGHT_BYTES: Final = 16 << 20
"""Most bytes of all requests in flight, what inputs ask for included."""

_BULK_32BITS_SIZE: Final = 10
"""Size of a usb_redir_bulk_packet_header that has length_high."""

_BULK: Final = PacketType.BULK_PACKET

STATUS_OF: Final[Mapping[PacketType, PacketType]] = MappingProxyType(
    {
        PacketType.SET_CONFIGURATION: PacketType.CONFIGURATION_STATUS,
        PacketType.GET_CONFIGURATION: PacketType.CONFIGURATION_STATUS,
        PacketType.SET_ALT_SETTING: PacketType.ALT_SETTING_STATUS,
        PacketType.GET_ALT_SETTING: PacketType.ALT_SETTING_STATUS,
        PacketType.ALLOC_BULK_STREAMS: PacketType.BULK_STREAMS_STATUS,
        PacketType.FREE_BULK_STREAMS: PacketType.BULK_STREAMS_STATUS,
    }
)
"""Commands that always get an answer with their id, and its type. Start and stop of a stream
get a status too, but one that may also come unasked, or not at all."""

_USES: Final = frozenset({PacketType.SET_CONFIGURATION, PacketType.SET_ALT_SETTING})
"""Those of them that change the device."""


@dataclass(slots=True, eq=False)
class Request:
    """A request in flight.

    Attributes:
        span: What was sent. Only that is kept, no payload.
        number: Counts the requests.
        cancelled: Whether the guest has cancelled it; an answer comes all the same.
    """

    span: Span
    number: int
    cancelled: bool = False


class Ledger:
    """Knows the requests in flight, by lane and id.

    Attributes:
        uses: Counts requests that do something to the device, and do not just ask.
    """

    def __init__(self) -> None:
        self.uses = 0
        self._lanes: dict[int, deque[Request]] = {}
        self._open = 0
        self._bytes = 0
        self._entered = 0

    @property
    def open(self) -> int:
        """Requests in flight."""
        return self._open

    @property
    def in_flight_bytes(self) -> int:
        """Bytes they stand for."""
        return self._bytes

    def __iter__(self) -> Iterator[Request]:
        """Yield the requests in flight, in the order in which they came."""
        yield from sorted(self._requests(), key=lambda request: request.number)

    def ask(self, span: Span) -> None:
        """Enter a request of the guest.

        Raises:
            RemoteProtocolError: If there are too many in flight.
        """
        self.enter(span)
        if self._open > MAX_OPEN:
            raise RemoteProtocolError(f"more than {MAX_OPEN} requests in flight")
        if self._bytes > MAX_IN_FLIGHT_BYTES:
            raise RemoteProtocolError(f"more than {MAX_IN_FLIGHT_BYTES} bytes in flight")

    def enter(self, span: Span) -> Request:
        """Enter a request whatever is in flight.

        Args:
            span: A data packet that gets an answer, or one of the commands that always do.
        """
        if span.body is None:
            key = span.use
            self.uses += 1
        else:
            key = use(STATUS_OF[span.type], 0)
            self.uses += span.type in _USES
        self._entered += 1
        request = Request(span, self._entered)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = deque()
        lane.append(request)
        self._open += 1
        self._bytes += span.size
        return request

    def cancel(self, packet_id: int) -> None:
        """Note that the guest cancels a data packet; an id that is not open is no fault."""
        for request in self._requests():
            if request.span.id == packet_id and request.span.body is None:
                request.cancelled = True

    def cancel_all(self) -> list[int]:
        """Note that every data packet is cancelled, and return their ids.

        One that the guest has cancelled before is among them: where its id is in use again,
        the usb-host takes the second cancel for the younger request.
        """
        requests = [request for request in self if request.span.body is None]
        for request in requests:
            request.cancelled = True
        return [request.span.id for request in requests]

    def answer(self, span: Span) -> Request | None:
        """Take out the request that this packet of the usb-host answers.

        Returns:
            The request; None if nobody asked.

        Raises:
            RemoteProtocolError: If it is not its turn, or it brings more than was asked for.
        """
        lane = self._lanes.get(span.use)
        if not lane:
            return None
        request = lane[0]
        if request.span.id == span.id:
            lane.popleft()
        else:
            found = next((other for other in lane if other.span.id == span.id), None)
            if found is None:
                return None
            request = found
            _check_turn(lane, request)
            lane.remove(request)
        self._open -= 1
        asked = request.span
        self._bytes -= asked.size
        if span.body is None and span.length - asked.length > asked.size:
            raise RemoteProtocolError(f"{span.type.label} with more data than was asked for")
        return request

    def _requests(self) -> Iterator[Request]:
        return itertools.chain.from_iterable(self._lanes.values())

    def clear(self) -> None:
        """Forget all requests: nobody is left to answer them."""
        self._lanes.clear()
        self._open = self._bytes = 0


def _check_turn(lane: deque[Request], request: Request) -> None:
    streams = any(request.span.head[4:8])
    if request.span.type is not _BULK or request.cancelled or streams:
        return
    earlier = itertools.takewhile(lambda other: other is not request, lane)
    if not all(other.cancelled for other in earlier):
        raise RemoteProtocolError(
            f"bulk_packet of endpoint {request.span.head[0]:#04x} answered out of turn"
        )
