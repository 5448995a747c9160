"""What a fresh guest has to be told of the device, and what a gone one leaves behind on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.protocol.constants import NO_CAPS, Cap, PacketType, Status
from kubectl_vmredir.protocol.control import (
    AllocBulkStreams,
    ConfigurationStatus,
    FreeBulkStreams,
    SetAltSetting,
    StartBulkReceiving,
    StartInterruptReceiving,
    StartIsoStream,
    StopBulkReceiving,
    StopInterruptReceiving,
    StopIsoStream,
)
from kubectl_vmredir.protocol.packets import Header, decode_body

if TYPE_CHECKING:
    from kubectl_vmredir.protocol.packets import Packet
    from kubectl_vmredir.protocol.spans import Span

_DESCRIPTION = (PacketType.INTERFACE_INFO, PacketType.EP_INFO, PacketType.DEVICE_CONNECT)
"""In the order in which libusbredirhost sends them."""


class Device:
    """Remembers the device as it was last described, and what guests have set up on it.

    A stream counts as running from the command that starts it to the one that stops it, an
    alternate setting as chosen from its command on, whatever their statuses say: these may be
    late or lost, and to undo too much does no harm.
    """

    def __init__(self) -> None:
        self._description: dict[PacketType, bytes] = {}
        self._running: dict[tuple[type, int], Packet] = {}  # what stops each stream
        self._stream_endpoints = 0
        self._altered: set[int] = set()  # interfaces
        self._configuration = 0

    # -- for the next guest -----------------------------------------------------------------

    def describe(self, span: Span) -> None:
        """Remember an interface_info, ep_info or device_connect in place of the last one."""
        self._description[span.type] = span.body or b""

    def forget(self) -> None:
        """The device is disconnected: until the next device_connect there is none."""
        self._description.clear()

    def replay(self, caps: Cap) -> bytes:
        """Return the packets that plug the device into a fresh guest; empty without one."""
        if PacketType.DEVICE_CONNECT not in self._description:
            return b""
        wide_ids = Cap.IDS_64BITS in caps
        bodies = [(kind, self._description.get(kind)) for kind in _DESCRIPTION]
        return b"".join(
            Header(kind, len(body)).encode(wide_ids=wide_ids) + body
            for kind, body in bodies
            if body is not None
        )

    # -- from the last guest ----------------------------------------------------------------

    @property
    def configuration(self) -> int:
        """The active configuration as last told; 0 if it never was."""
        return self._configuration

    def command(self, span: Span) -> None:
        """Note what a command of the guest sets up, or ends."""
        match decode_body(span.type, span.body or b"", NO_CAPS):
            case StartIsoStream(endpoint=endpoint):
                self._running[StopIsoStream, endpoint] = StopIsoStream(endpoint)
            case StartInterruptReceiving(endpoint=endpoint):
                self._running[StopInterruptReceiving, endpoint] = StopInterruptReceiving(endpoint)
            case StartBulkReceiving(stream_id=stream_id, endpoint=endpoint):
                self._running[StopBulkReceiving, endpoint] = StopBulkReceiving(stream_id, endpoint)
            case (StopIsoStream() | StopInterruptReceiving() | StopBulkReceiving()) as stop:
                self._running.pop((type(stop), stop.endpoint), None)
            case AllocBulkStreams(endpoints=endpoints):
                self._stream_endpoints |= endpoints
            case FreeBulkStreams(endpoints=endpoints):
                self._stream_endpoints &= ~endpoints
            case SetAltSetting(interface=interface, alt=alt) if alt:
                self._altered.add(interface)
            case _:
                pass  # it leaves nothing behind

    def status(self, span: Span) -> None:
        """Note what an answer says of the configuration."""
        match decode_body(span.type, span.body or b"", NO_CAPS):
            case ConfigurationStatus(status=Status.SUCCESS, configuration=configuration):
                self._configuration = configuration
            case _:
                pass  # it says nothing new

    def undo(self) -> list[Packet]:
        """Return the commands that bring the device to what a fresh guest expects.

        That is the state after a replug, but for the configuration: every guest sets that
        itself. Alternate settings it takes for 0 without a word.
        """
        commands = list(self._running.values())
        if self._stream_endpoints:
            commands.append(FreeBulkStreams(self._stream_endpoints))
        commands += [SetAltSetting(interface, 0) for interface in sorted(self._altered)]
        self._running.clear()
        self._stream_endpoints = 0
        self._altered.clear()
        return commands
