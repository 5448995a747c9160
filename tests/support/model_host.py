"""A usb-host as small as can be: the other end of :mod:`model_guest`.

It does what usbredirhost.c 0.15 does: control packets at once and in order, a cancel answered
at once, transfers of one endpoint completed in order, transfers that a change of configuration
has killed completed some time later. It has neither time nor sockets: the bytes that it sends
wait in ``outbox``, and what its device does next is the test's choice.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from kubectl_vmredir.model import UsbClass
from kubectl_vmredir.protocol.constants import (
    INPUT,
    NO_CAPS,
    Cap,
    Side,
    Status,
    TransferType,
    UsbSpeed,
    endpoint_address,
)
from kubectl_vmredir.protocol.control import (
    AllocBulkStreams,
    AltSettingStatus,
    BulkReceivingStatus,
    BulkStreamsStatus,
    CancelDataPacket,
    ConfigurationStatus,
    DeviceDisconnect,
    DeviceDisconnectAck,
    FreeBulkStreams,
    GetAltSetting,
    GetConfiguration,
    InterruptReceivingStatus,
    IsoStreamStatus,
    Reset,
    SetAltSetting,
    SetConfiguration,
    StartBulkReceiving,
    StartInterruptReceiving,
    StartIsoStream,
    StopBulkReceiving,
    StopInterruptReceiving,
    StopIsoStream,
)
from kubectl_vmredir.protocol.data import (
    BufferedBulkPacket,
    BulkPacket,
    ControlPacket,
    InterruptPacket,
    IsoPacket,
)
from kubectl_vmredir.protocol.description import (
    DeviceConnect,
    Endpoint,
    EpInfo,
    Hello,
    Interface,
    InterfaceInfo,
)
from kubectl_vmredir.protocol.packets import Packet, encode_packet
from kubectl_vmredir.protocol.parser import Parser

Transfer = ControlPacket | BulkPacket | InterruptPacket

BULK_IN: Final = 0x81
BULK_OUT: Final = 0x02
INTERRUPT_IN: Final = 0x83
INTERRUPT_OUT: Final = 0x04
ISO_IN: Final = 0x85
ISO_OUT: Final = 0x06
BUFFERED_IN: Final = 0x87
"""A bulk input that is read ahead."""

_FIXED: Final = {
    0x00: TransferType.CONTROL,
    0x80: TransferType.CONTROL,
    BULK_IN: TransferType.BULK,
    BULK_OUT: TransferType.BULK,
    INTERRUPT_IN: TransferType.INTERRUPT,
    INTERRUPT_OUT: TransferType.INTERRUPT,
    BUFFERED_IN: TransferType.BULK,
}
_ALTERNATE: Final = {ISO_IN: TransferType.ISO, ISO_OUT: TransferType.ISO}
"""Endpoints of interface 1 in its alternate setting 1; in setting 0 it has none."""

INTERFACES: Final = InterfaceInfo(
    (Interface(0, UsbClass(8, 6, 80)), Interface(1, UsbClass(14, 2, 0)))
)
CONNECT: Final = DeviceConnect(UsbSpeed.HIGH, 0, 0, 0, 0x1234, 0x5678)


def ep_info(*, alternate: bool = False) -> EpInfo:
    """Return the endpoints of the model's device."""
    types = _FIXED | (_ALTERNATE if alternate else {})
    addresses = [endpoint_address(index) for index in range(32)]
    return EpInfo(
        tuple(
            Endpoint(types[address], 4, 0 if address in _FIXED else 1, 512, 16)
            if address in types
            else Endpoint()
            for address in addresses
        )
    )


@dataclass(eq=False)
class _Pending:
    id: int
    packet: Transfer
    killed: bool = False


class ModelHost:
    """The usb-host.

    Attributes:
        outbox: Bytes that it has sent.
        pending: Transfers that are under way.
        running: Streams that run: endpoint to the generation of its start.
        generation: Counts the starts of streams; their data and faults carry it.
        alternate: Whether interface 1 has its iso endpoints.
        connected: Whether it has sent device_connect, and no device_disconnect since.
        serials: Serial numbers of the requests that came, by number of their guest.
        stream_endpoints: Endpoints with bulk streams.
    """

    def __init__(self, caps: Cap) -> None:
        self.outbox = bytearray()
        self.pending: list[_Pending] = []
        self.running: dict[int, int] = {}
        self.generation = 0
        self.alternate = False
        self.connected = False
        self.serials: dict[int, list[int]] = {}
        self.stream_endpoints = 0
        self._configuration = 1
        self._awaits_ack = False
        self._counter = 0
        self._parser = Parser(Side.GUEST, own_caps=caps)
        self.outbox += encode_packet(Hello("model host", caps), packet_id=0, caps=NO_CAPS)

    @property
    def caps(self) -> Cap:
        """The agreed capabilities."""
        return self._parser.caps or NO_CAPS

    # -- what the device does ---------------------------------------------------------------

    def complete(self, choice: int, status: Status = Status.SUCCESS) -> None:
        """Complete a transfer: the oldest of one of the endpoints that have any."""
        if not self.pending:
            return
        endpoint = self.pending[choice % len(self.pending)].packet.endpoint
        oldest = next(item for item in self.pending if item.packet.endpoint == endpoint)
        self._answer(oldest, Status.CANCELLED if oldest.killed else status)

    def stream(self, choice: int) -> None:
        """Send a packet of one of the streams that run."""
        inputs = [address for address in self.running if address & INPUT]
        if not inputs or not self.connected:
            return
        endpoint = inputs[choice % len(inputs)]
        data = self._stamp(self.running[endpoint])
        size = len(data)
        match endpoint:
            case 0x83:
                self._send(InterruptPacket(endpoint, Status.SUCCESS, size, data))
            case 0x85:
                self._send(IsoPacket(endpoint, Status.SUCCESS, size, data))
            case _:
                self._send(BufferedBulkPacket(0, size, endpoint, Status.SUCCESS, data))

    def break_stream(self, choice: int) -> None:
        """Have one of the streams that run end in a stall."""
        if self.running and self.connected:
            endpoint = list(self.running)[choice % len(self.running)]
            self._send_stream_status(endpoint, Status.STALL, self.running.pop(endpoint))

    def disconnect(self) -> None:
        """Lose the device."""
        if not self.connected:
            return
        for item in list(self.pending):
            self._answer(item, Status.IOERROR)
        self.running.clear()
        self.connected = self.alternate = False
        self._send(DeviceDisconnect())
        self._awaits_ack = Cap.DEVICE_DISCONNECT_ACK in self.caps

    def connect(self) -> None:
        """Get the device (back), once the loss of the last one is acknowledged."""
        if not self.connected and not self._awaits_ack and self._parser.caps is not None:
            self.connected = True
            self._send_infos()
            self._send(CONNECT)

    # -- what the guest says ----------------------------------------------------------------

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes of the guest; at each call whole packets."""
        for header, packet in self._parser.feed(data):
            self._handle(header.id, packet)

    def _handle(self, packet_id: int, packet: Packet) -> None:
        match packet:
            case Hello():
                self.connect()
            case ControlPacket() | BulkPacket() | InterruptPacket():
                self._note_serial(packet)
                self.pending.append(_Pending(packet_id, packet))
                if not self.connected:
                    self._answer(self.pending[-1], Status.IOERROR)
            case IsoPacket():
                self._note_serial(packet)
            case CancelDataPacket():
                for item in self.pending:
                    if item.id == packet_id:
                        self._answer(item, Status.CANCELLED)
                        break
            case Reset():
                for endpoint in list(self.running):
                    self._send_stream_status(endpoint, Status.STALL, self.running.pop(endpoint))
                for item in list(self.pending):
                    self._answer(item, Status.CANCELLED)
            case SetConfiguration(configuration):
                if self.connected and configuration != self._configuration:
                    self._kill(set(_FIXED | _ALTERNATE))
                    self._configuration = configuration
                    self.alternate = False
                    self._send_infos()
                self._send(ConfigurationStatus(self._status, self._configuration), packet_id)
            case GetConfiguration():
                self._send(ConfigurationStatus(self._status, self._configuration), packet_id)
            case SetAltSetting(interface=1, alt=alt) if self.connected:
                self._kill(set(_ALTERNATE))
                self.alternate = alt == 1
                self._send_infos()
                self._send(AltSettingStatus(Status.SUCCESS, 1, alt), packet_id)
            case SetAltSetting(interface=interface) | GetAltSetting(interface=interface):
                alt = int(self.alternate) if interface == 1 and self.connected else 0xFF
                self._send(AltSettingStatus(self._status, interface, alt), packet_id)
            case (
                StartIsoStream(endpoint=endpoint)
                | StartInterruptReceiving(endpoint=endpoint)
                | StartBulkReceiving(endpoint=endpoint)
            ):
                is_there = endpoint in _FIXED or self.alternate
                if not self.connected or not is_there:
                    self._send_stream_status(endpoint, Status.STALL, packet_id)
                elif endpoint in self.running:
                    self._send_stream_status(endpoint, Status.INVAL, packet_id)
                else:
                    self.generation += 1
                    self.running[endpoint] = self.generation
                    self._send_stream_status(endpoint, Status.SUCCESS, packet_id)
            case (
                StopIsoStream(endpoint=endpoint)
                | StopInterruptReceiving(endpoint=endpoint)
                | StopBulkReceiving(endpoint=endpoint)
            ):
                if self.connected:
                    self.running.pop(endpoint, None)
                    self._send_stream_status(endpoint, Status.SUCCESS, packet_id)
            case AllocBulkStreams(endpoints, count):
                self.stream_endpoints |= endpoints
                self._send(BulkStreamsStatus(endpoints, count, self._status), packet_id)
            case FreeBulkStreams(endpoints):
                self.stream_endpoints &= ~endpoints
                self._send(BulkStreamsStatus(endpoints, 0, self._status), packet_id)
            case DeviceDisconnectAck():
                assert self._awaits_ack, "an ack of nothing"
                self._awaits_ack = False
            case _:
                raise AssertionError(f"not for a usb-host: {packet}")

    @property
    def _status(self) -> Status:
        return Status.SUCCESS if self.connected else Status.IOERROR

    def _note_serial(self, packet: Transfer | IsoPacket) -> None:
        if stamp := request_stamp(packet):
            guest, serial = stamp
            self.serials.setdefault(guest, []).append(serial)

    def _kill(self, endpoints: set[int]) -> None:
        for endpoint in endpoints & set(self.running):
            del self.running[endpoint]
        for item in self.pending:
            if item.packet.endpoint in endpoints:
                item.killed = True

    def _answer(self, item: _Pending, status: Status) -> None:
        self.pending.remove(item)
        packet, length, data = item.packet, item.packet.length, b""
        if status is not Status.SUCCESS:
            length = 0
        elif packet.endpoint & INPUT:
            # As much as was asked for: the guest knows its requests by their length.
            data = self._stamp(0).ljust(length, b".")[:length]
        self._send(replace(packet, status=status, length=length, data=data), item.id)

    def _stamp(self, generation: int) -> bytes:
        self._counter += 1
        return struct.pack("<II", self._counter, generation)

    def _send_stream_status(self, endpoint: int, status: Status, packet_id: int) -> None:
        match endpoint:
            case 0x85 | 0x06:
                self._send(IsoStreamStatus(status, endpoint), packet_id)
            case 0x83:
                self._send(InterruptReceivingStatus(status, endpoint), packet_id)
            case _:
                self._send(BulkReceivingStatus(0, endpoint, status), packet_id)

    def _send_infos(self) -> None:
        self._send(INTERFACES)
        self._send(ep_info(alternate=self.alternate))

    def _send(self, packet: Packet, packet_id: int = 0) -> None:
        self.outbox += encode_packet(packet, packet_id=packet_id, caps=self.caps)


def request_stamp(packet: Transfer | IsoPacket) -> tuple[int, int] | None:
    """Return number of the guest and serial number, if this request of a guest carries them."""
    match packet:
        case ControlPacket(value=guest, index=serial):
            return guest, serial
        case BulkPacket(data=data) | InterruptPacket(data=data) | IsoPacket(data=data) if data:
            guest, serial = struct.unpack_from("<II", data)
            return guest, serial
        case _:
            return None
