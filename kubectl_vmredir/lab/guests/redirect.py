"""The device model "usb-redir": one USB redirection channel of a VM.

What QEMU does, in the words of its source; where QEMU leaves something to chance this model
takes the worst. So a packet that usbredirparser rejects ends the VM at once: in QEMU it does if
one more byte was read together with it (`read_buf == NULL`), and on a stream that is chance. Our
own parser is a little stricter than that one: a second hello, or an endpoint of an unknown type,
ends the VM as well.

Not modelled, since no guest here asks for it: iso streams, bulk streams, buffered bulk input.

Source: hw/usb/redirect.c of QEMU 7.2, usbredirparser.c of usbredir 0.13; measured in
docs/facts/qemu.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.chardev import Chardev
from kubectl_vmredir.lab.guests.conversation import Conversation
from kubectl_vmredir.lab.guests.transfers import Bulk, Outcome, Setup, Transfer
from kubectl_vmredir.protocol.constants import (
    INPUT,
    Cap,
    Status,
    TransferType,
    UsbSpeed,
    endpoint_address,
)
from kubectl_vmredir.protocol.control import (
    AltSettingStatus,
    BulkStreamsStatus,
    CancelDataPacket,
    ConfigurationStatus,
    DeviceDisconnect,
    DeviceDisconnectAck,
    FilterReject,
    GetAltSetting,
    GetConfiguration,
    InterruptReceivingStatus,
    Reset,
    SetAltSetting,
    SetConfiguration,
    StartInterruptReceiving,
)
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket, InterruptPacket
from kubectl_vmredir.protocol.description import (
    DeviceConnect,
    EpInfo,
    FilterFilter,
    InterfaceInfo,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kubectl_vmredir.protocol.packets import Packet

_XHCI_CAPS: Final = Cap.EP_INFO_MAX_PACKET_SIZE | Cap.BULK_LENGTH_32BITS | Cap.IDS_64BITS
"""Without these no device gets to a port that can do USB 3."""

_OUTCOMES: Final = {
    Status.SUCCESS: Outcome.SUCCESS,
    Status.STALL: Outcome.STALL,
    Status.BABBLE: Outcome.BABBLE,
}


class Machine(Protocol):
    """The VM around the channel."""

    @property
    def running(self) -> bool:
        """Whether the guest runs."""

    @property
    def incoming(self) -> bool:
        """Whether it waits for the state of a migration (INMIGRATE)."""

    def log(self, text: str) -> None:
        """Write a line to QEMU's stderr."""

    def crash(self, signal: str, text: str) -> None:
        """End as QEMU does on a failed assertion or a bad pointer."""

    def port_changed(self, slot: int) -> None:
        """A device was attached to the port of this slot, or detached."""

    def completed(self, slot: int, packet_id: int, outcome: Outcome, data: bytes) -> None:
        """A transfer of the guest has ended."""

    def parser_lost(self, slot: int) -> None:
        """The client of a slot left."""


class RedirDevice:
    """One channel.

    Args:
        slot: Its index.
        folder: Where its socket is.
        machine: The VM.
    """

    def __init__(self, slot: int, folder: Path, machine: Machine) -> None:
        self._slot = slot
        self._machine = machine
        self._conversation: Conversation | None = None
        self._attached = False
        self._speed = UsbSpeed.UNKNOWN
        self._interfaces_known = False
        self._endpoints: dict[int, TransferType] = {}
        self._receiving: set[int] = set()
        self._pending: dict[int, Transfer] = {}
        self._cancelled: set[int] = set()
        self._in_flight: set[int] = set()
        self._chardev = Chardev(folder, sockets.SLOTS[slot], self)

    @property
    def attached(self) -> bool:
        """Whether there is a device on the port."""
        return self._attached

    @property
    def speed(self) -> UsbSpeed:
        """Of the device on the port."""
        return self._speed

    @property
    def has_parser(self) -> bool:
        """Whether QEMU's pointer to the parser is good."""
        return self._conversation is not None

    # -- the machine's side -------------------------------------------------------------------

    def run_state_changed(self) -> None:
        """The guest was stopped or let go: a stopped one neither reads nor writes."""
        self._chardev.set_reading(self._machine.running)
        self._flush()

    def close(self) -> None:
        """Close the socket; nothing happens any more."""
        self._chardev.close()

    def save(self) -> dict[str, Any]:
        """Return all that moves with the VM, as JSON (pre_save, put_parser)."""
        # As in QEMU these ids stay here as well: if the migration fails after this, a transfer
        # that gets one of them again is never sent.
        self._in_flight |= self._pending.keys()
        return {
            "conversation": self._conversation and self._conversation.save(),
            "attached": self._attached,
            "speed": int(self._speed),
            "interfaces_known": self._interfaces_known,
            "endpoints": {str(address): int(kind) for address, kind in self._endpoints.items()},
            "receiving": sorted(self._receiving),
            "cancelled": sorted(self._cancelled),
            "in_flight": sorted(self._in_flight),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`save` returned at the source (get_parser, post_load)."""
        self._attached = state["attached"]
        self._speed = UsbSpeed(state["speed"])
        self._interfaces_known = state["interfaces_known"]
        self._endpoints = {
            int(address): TransferType(kind) for address, kind in state["endpoints"].items()
        }
        self._receiving = set(state["receiving"])
        self._cancelled = set(state["cancelled"])
        self._in_flight = set(state["in_flight"])
        if state["conversation"] is None:
            # A client that is here already keeps its parser, which never says hello.
            return
        if self._conversation is None:
            self._machine.log("warning: usb-redir connection broken during migration")
            self._disconnect()
        else:
            self._conversation = Conversation.load(state["conversation"])

    # -- the guest's side ---------------------------------------------------------------------

    def submit(self, transfer: Transfer, packet_id: int) -> None:
        """Start a transfer; its end is told by :meth:`Machine.completed`.

        Args:
            transfer: What is wanted.
            packet_id: Where the guest has it in its memory: unique among those under way.
        """
        self._pending[packet_id] = transfer
        if packet_id in self._in_flight:
            self._in_flight.remove(packet_id)
        elif isinstance(transfer, Setup):
            self._send(_control(transfer), packet_id)
        elif self._endpoints.get(transfer.endpoint) is TransferType.BULK:
            length = len(transfer.data) or transfer.length
            packet = BulkPacket(transfer.endpoint, Status.SUCCESS, length, 0, transfer.data)
            self._send(packet, packet_id)
        else:
            self._machine.log(f"usb-redir error: no bulk endpoint {transfer.endpoint:02X}")

    def cancel(self, packet_id: int) -> None:
        """Give a transfer up; whatever is said of it later is dropped."""
        del self._pending[packet_id]
        self._cancelled.add(packet_id)
        self._send(CancelDataPacket(), packet_id)

    def reset(self) -> None:
        """Reset the device."""
        self._send(Reset())

    def poll(self, endpoint: int) -> None:
        """Poll an interrupt endpoint from now on."""
        if endpoint not in self._receiving:
            self._receiving.add(endpoint)
            self._send(StartInterruptReceiving(endpoint))

    # -- the usb-host's side ------------------------------------------------------------------

    def opened(self) -> None:
        """A client connected: says hello, but not if a state is still to come."""
        self._conversation = Conversation()
        if not self._machine.incoming:
            self._conversation.greet()
        self._flush()

    def closed(self) -> None:
        """The client left: for the guest that is an unplug."""
        self._disconnect()
        self._conversation = None
        self._machine.parser_lost(self._slot)

    def received(self, data: bytes) -> None:
        """The client sent bytes."""
        assert self._conversation is not None, "bytes come from a client"
        try:
            packets = self._conversation.feed(data)
        except RemoteProtocolError as error:
            self._machine.crash(
                "SIGABRT",
                f"usbredirparser: error {error} / redirect.c:1364: usbredir_chardev_read: "
                "Assertion `dev->read_buf == NULL' failed.",
            )
            return
        for packet_id, packet in packets:
            if isinstance(packet, FilterFilter):
                self._machine.crash("SIGSEGV", "usb-redir has no code for filter_filter")
                return
            self._handle(packet_id, packet)

    def _handle(self, packet_id: int, packet: Packet) -> None:
        match packet:
            case InterfaceInfo():
                self._interfaces_known = True
            case EpInfo():
                self._describe_endpoints(packet)
            case DeviceConnect():
                self._connect(packet)
            case DeviceDisconnect():
                self._disconnect()
                if Cap.DEVICE_DISCONNECT_ACK in self._caps:
                    self._send(DeviceDisconnectAck())
            case ControlPacket(status=status, data=data):
                self._complete(packet_id, 0, status, data)
            case ConfigurationStatus(status, configuration):
                self._complete(packet_id, 0, status, bytes([configuration]))
            case AltSettingStatus(status, _, alt):
                self._complete(packet_id, 0, status, bytes([alt]))
            case BulkPacket(endpoint=endpoint, status=status, data=data):
                self._complete(packet_id, endpoint, status, data)
            case InterruptPacket(endpoint=endpoint) if endpoint & INPUT:
                self._interrupt(endpoint)
            case InterruptReceivingStatus(Status.STALL, endpoint):
                self._receiving.discard(endpoint)
            case BulkStreamsStatus(status=status) if status is not Status.SUCCESS:
                self._reject("usb-redir-host does not provide streams, disconnecting")
            case _:
                pass  # read and ignored

    def _describe_endpoints(self, info: EpInfo) -> None:
        self._endpoints = {
            endpoint_address(index): endpoint.type
            for index, endpoint in enumerate(info.endpoints)
            if endpoint.type is not TransferType.INVALID
        }
        for endpoint in info.endpoints:
            if (
                endpoint.type in (TransferType.ISO, TransferType.INTERRUPT)
                and not endpoint.interval
            ):
                self._reject("Received 0 interval for isoc or irq endpoint")
                return

    def _connect(self, packet: DeviceConnect) -> None:
        if self._attached:
            self._machine.log("usb-redir error: Received device connect while already connected")
        elif not self._interfaces_known:
            self._reject("No interface info for device")
        elif _XHCI_CAPS not in self._caps:
            self._reject("usb-redir-host lacks capabilities needed for use with XHCI")
        else:
            self._attached = True
            self._speed = packet.speed
            self._machine.port_changed(self._slot)

    def _disconnect(self) -> None:
        was_attached = self._attached
        self._attached = False
        self._interfaces_known = False
        self._endpoints.clear()
        self._receiving.clear()
        self._pending.clear()
        self._cancelled.clear()
        self._in_flight.clear()
        if was_attached:
            self._machine.port_changed(self._slot)

    def _reject(self, text: str) -> None:
        self._machine.log(f"usb-redir error: {text}")
        self._disconnect()
        if Cap.FILTER in self._caps:
            self._send(FilterReject())

    def _complete(self, packet_id: int, endpoint: int, status: Status, data: bytes) -> None:
        if not self._attached:
            return
        if packet_id in self._cancelled:
            self._cancelled.remove(packet_id)
            return
        transfer = self._pending.get(packet_id)
        if transfer is None or (isinstance(transfer, Bulk) and transfer.endpoint != endpoint):
            self._machine.log(f"usb-redir error: could not find packet with id {packet_id}")
            return
        del self._pending[packet_id]
        outcome = _OUTCOMES.get(status, Outcome.IOERROR)
        if len(data) > transfer.length:
            data = data[: transfer.length]
            outcome = Outcome.BABBLE if isinstance(transfer, Bulk) else outcome
        self._machine.completed(self._slot, packet_id, outcome, data)

    def _interrupt(self, endpoint: int) -> None:
        if self._endpoints.get(endpoint) is not TransferType.INTERRUPT:
            self._machine.log(
                f"usb-redir error: received int packet for non interrupt endpoint {endpoint:02X}"
            )

    @property
    def _caps(self) -> Cap:
        assert self._conversation is not None, "asked for while a client is there"
        return self._conversation.caps

    def _send(self, packet: Packet, packet_id: int = 0) -> None:
        assert self._conversation is not None, "a device that is attached has a client"
        self._conversation.queue(packet, packet_id)
        self._flush()

    def _flush(self) -> None:
        """Write what is queued; a guest that is stopped writes nothing."""
        if self._conversation is None or not self._machine.running:
            return
        outbox = self._conversation.outbox
        while outbox and (sent := self._chardev.send(bytes(outbox))):
            del outbox[:sent]
        if outbox:
            self._chardev.when_writable(self._flush)


def _control(setup: Setup) -> Packet:
    """Return the packet for a control transfer; some requests have packets of their own."""
    match (setup.request_type, setup.request):
        case (0x00, 9):  # SET_CONFIGURATION
            return SetConfiguration(setup.value & 0xFF)
        case (0x80, 8):
            return GetConfiguration()
        case (0x01, 11):  # SET_INTERFACE
            return SetAltSetting(setup.index & 0xFF, setup.value & 0xFF)
        case (0x81, 10):
            return GetAltSetting(setup.index & 0xFF)
        case _:
            return ControlPacket(
                setup.endpoint, setup.request, setup.request_type, Status.SUCCESS,
                setup.value, setup.index, setup.length, setup.data,
            )  # fmt: skip
