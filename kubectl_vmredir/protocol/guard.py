"""Checks every packet that passes between the VM and the device.

Three parts look at a packet, each with what it knows:

* the span tracker knows the stream: type, direction, length, the fields of control packets;
* the guard, here, knows the device as the last ep_info describes it, and what a QEMU cannot
  take: may there be such a packet for this device?
* the ledger of continuity knows the requests in flight: does an answer belong to one, is it
  its turn, is there room for one more (ids and bytes)?

None of them touches payload. To be checked is not to be whole: the span of a data packet
comes with its head, before its payload. Whoever forwards to a usb-host waits for the rest.

Everything that breaks a rule raises :class:`RemoteProtocolError`, and nothing of the chunk
it came in may be forwarded: the device session has to be restarted.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.protocol.constants import (
    ENDPOINT_COUNT,
    INPUT,
    NO_CAPS,
    Cap,
    PacketType,
    Side,
    TransferType,
    endpoint_address,
)
from kubectl_vmredir.protocol.control import (
    AllocBulkStreams,
    StartBulkReceiving,
    StartInterruptReceiving,
    StartIsoStream,
)
from kubectl_vmredir.protocol.description import EpInfo
from kubectl_vmredir.protocol.packets import decode_body
from kubectl_vmredir.protocol.spans import Span, SpanTracker, use

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CONTROL: Final = PacketType.CONTROL_PACKET
_BULK: Final = PacketType.BULK_PACKET
_BUFFERED_BULK: Final = PacketType.BUFFERED_BULK_PACKET

_IN: Final = (INPUT,)
_OUT: Final = (0,)
_BOTH: Final = (0, INPUT)

_Uses = tuple[tuple[PacketType, tuple[int, ...]], ...]

_REQUESTS: Final[Mapping[TransferType, _Uses]] = MappingProxyType(
    {
        TransferType.CONTROL: ((_CONTROL, _BOTH),),
        TransferType.BULK: (
            (_BULK, _BOTH),
            (PacketType.ALLOC_BULK_STREAMS, _BOTH),
            (PacketType.START_BULK_RECEIVING, _IN),
        ),
        TransferType.ISO: ((PacketType.START_ISO_STREAM, _BOTH), (PacketType.ISO_PACKET, _OUT)),
        TransferType.INTERRUPT: (
            (PacketType.START_INTERRUPT_RECEIVING, _IN),
            (PacketType.INTERRUPT_PACKET, _OUT),
        ),
    }
)
"""What a guest may send for an endpoint of each type, by its direction."""

_STREAMS: Final[Mapping[TransferType, _Uses]] = MappingProxyType(
    {
        TransferType.BULK: ((_BUFFERED_BULK, _IN),),
        TransferType.ISO: ((PacketType.ISO_PACKET, _IN),),
        TransferType.INTERRUPT: ((PacketType.INTERRUPT_PACKET, _IN),),
    }
)
"""What a usb-host may send unasked for an endpoint of each type."""

_STARTS: Final = frozenset(
    {
        PacketType.START_ISO_STREAM,
        PacketType.START_INTERRUPT_RECEIVING,
        PacketType.START_BULK_RECEIVING,
        PacketType.ALLOC_BULK_STREAMS,
    }
)
"""Commands that make an endpoint work. Those that end something are always right: the
endpoint may just have gone with a change of configuration."""


class HostGuard:
    """Checks the stream of a usb-host, and learns from it what the device is like.

    Attributes:
        requests: What may be asked of the endpoints, as :func:`use`; nothing before ep_info.
    """

    def __init__(self) -> None:
        self.requests: frozenset[int] = frozenset()
        self._tracker = SpanTracker(Side.HOST)
        self._streams: frozenset[int] = frozenset()

    @property
    def caps(self) -> Cap | None:
        """The agreed capabilities; None until both hellos are known."""
        return self._tracker.caps

    def agree(self, guest_caps: Cap) -> None:
        """Tell what the guest's hello said; before the usb-host can answer it."""
        self._tracker.own_caps = guest_caps

    def feed(self, chunk: memoryview) -> list[Span]:
        """Take the next bytes and return the packets that became known, all checked.

        Raises:
            RemoteProtocolError: If a guest must not get to see this.
        """
        spans = self._tracker.feed(chunk)
        for span in spans:
            if span.body is not None:
                self._check_control(span, span.body)
            elif span.type > _BULK:
                self._check_stream(span)
        return spans

    def _check_control(self, span: Span, body: bytes) -> None:
        if span.type is PacketType.FILTER_FILTER:
            # Allowed by the protocol, but QEMU has no code for it: it calls NULL.
            raise RemoteProtocolError("filter_filter would crash the VM")
        if span.type is PacketType.EP_INFO:
            ep_info = EpInfo.decode(body, self.caps or NO_CAPS)
            self.requests = frozenset(_uses(ep_info, _REQUESTS))
            self._streams = frozenset(_uses(ep_info, _STREAMS))

    def _check_stream(self, span: Span) -> None:
        # Answers are left to the ledger: after a change of configuration they may still come
        # from an endpoint that is no longer there.
        if span.use & INPUT and span.use not in self._streams:
            raise RemoteProtocolError(f"{span.type.label} from endpoint {span.use & 0xFF:#04x}")


class GuestGuard:
    """Checks the stream of one usb-guest; a new link has a new one.

    Args:
        host: Knows the device.
        host_caps: Capabilities in the usb-host's hello, if it has come.
    """

    def __init__(self, host: HostGuard, host_caps: Cap | None) -> None:
        self._host = host
        self._tracker = SpanTracker(Side.GUEST, own_caps=host_caps)

    def agree(self, host_caps: Cap) -> None:
        """Tell what the usb-host's hello said; before the guest can answer it."""
        self._tracker.own_caps = host_caps

    def follow(self, chunk: memoryview) -> list[Span]:
        """Take the next bytes of a guest whose packets go nowhere: the device may have changed.

        Raises:
            RemoteProtocolError: If it is not usbredir.
        """
        return self._tracker.feed(chunk)

    def feed(self, chunk: memoryview) -> list[Span]:
        """Take the next bytes and return the packets that became known, all checked.

        Raises:
            RemoteProtocolError: If the usb-host must not get to see this.
        """
        spans = self._tracker.feed(chunk)
        requests = self._host.requests
        for span in spans:
            if span.body is not None:
                self._check_command(span, span.body)
                continue
            if span.use not in requests:
                raise _no_use(span.type, span.use & 0xFF)
            if span.type is _CONTROL and (span.use ^ span.head[2]) & INPUT:
                # The usb-host would send the device memory that nobody has filled.
                raise RemoteProtocolError("control_packet of two directions")
        return spans

    def _check_command(self, span: Span, body: bytes) -> None:
        match decode_body(span.type, body, NO_CAPS) if span.type in _STARTS else None:
            case AllocBulkStreams(endpoints=mask):
                addresses = [
                    endpoint_address(index) for index in range(ENDPOINT_COUNT) if mask >> index & 1
                ]
            case StartBulkReceiving(bytes_per_transfer=0):
                # They would complete at once, and be asked for again at once, for ever.
                raise RemoteProtocolError("start_bulk_receiving in transfers of 0 bytes")
            case (
                StartIsoStream(endpoint=endpoint)
                | StartInterruptReceiving(endpoint=endpoint)
                | StartBulkReceiving(endpoint=endpoint)
            ):
                addresses = [endpoint]
            case _:
                return
        for address in addresses:
            if use(span.type, address) not in self._host.requests:
                raise _no_use(span.type, address)


def _uses(ep_info: EpInfo, table: Mapping[TransferType, _Uses]) -> Iterator[int]:
    for index, endpoint in enumerate(ep_info.endpoints):
        address = endpoint_address(index)
        for packet_type, directions in table.get(endpoint.type, ()):
            if address & INPUT in directions:
                yield use(packet_type, address)


def _no_use(packet_type: PacketType, address: int) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"{packet_type.label} for endpoint {address:#04x}, which is not there or of another type"
    )
