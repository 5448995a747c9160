"""A usb-host in software: speaks usbredir 0.7 as libusbredirhost does, for a virtual device.

No I/O: bytes of the guest come in by :meth:`UsbHost.receive`, bytes for it go out by a
callback. The behaviour is that of usbredirhost.c 0.13. One difference: what a guest asks of an
endpoint of the wrong type is answered in kind, with a STALL, where the library looks at the
type of the endpoint to choose the kind of answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from kubectl_vmredir import __version__
from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.lab.devices.device import Device
from kubectl_vmredir.lab.devices.function import Answer, Handshake, Setup
from kubectl_vmredir.lab.devices.transfers import Transfer, Transfers
from kubectl_vmredir.model import Speed
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    ENDPOINT_COUNT,
    INPUT,
    NO_CAPS,
    Cap,
    PacketType,
    Side,
    Status,
    TransferType,
    UsbSpeed,
    endpoint_index,
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
    FilterReject,
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
    FilterFilter,
    Hello,
    Interface,
    InterfaceInfo,
)
from kubectl_vmredir.protocol.packets import encode_packet
from kubectl_vmredir.protocol.parser import Parser

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.lab.devices.function import Clock, Function
    from kubectl_vmredir.protocol.packets import Packet

CAPS: Final = ALL_CAPS & ~Cap.BULK_STREAMS
"""What libusbredirhost announces, without USB 3 bulk streams: no device here is that fast."""

_NO_ALTERNATE: Final = 0xFF
_USB_SPEEDS: Final = {Speed.FULL: UsbSpeed.FULL, Speed.HIGH: UsbSpeed.HIGH}
_HANDSHAKE_STATUS: Final = {
    Handshake.ACK: Status.SUCCESS,
    Handshake.STALL: Status.STALL,
}
_TRANSFER_TYPES: Final = {
    PacketType.BULK_PACKET: TransferType.BULK,
    PacketType.INTERRUPT_PACKET: TransferType.INTERRUPT,
}


@dataclass(slots=True)
class _Stream:
    """An IN endpoint that is read ahead of the guest.

    Attributes:
        type: INTERRUPT or BULK.
        length: Bytes to ask the endpoint for at a time.
        next_id: Id of the next packet: it counts.
    """

    type: TransferType
    length: int
    next_id: int = 0


class UsbHost:
    """One device session: one hello, and as many guests behind it as continuity brings.

    Args:
        function: The device; acquired by the caller.
        send: Takes bytes for the guest.
        clock: Time, for the latency and for devices that need it.
        latency_s: How long a transfer is on its way before the device sees it, in seconds.
    """

    def __init__(
        self,
        function: Function,
        send: Callable[[bytes], None],
        *,
        clock: Clock,
        latency_s: float = 0.0,
    ) -> None:
        self._description = function.description
        self._device = Device(function, clock=clock, wake=self._pump)
        self._send_bytes = send
        self._transfers = Transfers(self._arrive, clock=clock, latency_s=latency_s)
        self._parser = Parser(Side.GUEST, own_caps=CAPS)
        self._connected = False
        self._gone = False
        self._paused = False
        self._fresh = True
        """Whether the device was reset and not used since: a reset would change nothing."""
        self._streams: dict[int, _Stream] = {}
        # libusbredirhost resets the device when it claims it.
        self._device.reset()

    def start(self) -> None:
        """Say hello."""
        hello = Hello(f"kubectl-vmredir {__version__}", CAPS)
        self._send_bytes(encode_packet(hello, packet_id=0, caps=NO_CAPS))

    def receive(self, data: bytes) -> None:
        """Take bytes of the guest.

        Raises:
            RemoteProtocolError: If the session cannot go on: the guest broke the protocol,
                has too much under way, or does not let the device in.
        """
        for header, packet in self._parser.feed(data):
            self._handle(header.id, packet)

    def pause(self) -> None:
        """Send nothing but answers that are due at once, until :meth:`resume`."""
        self._paused = True

    def resume(self) -> None:
        """Undo :meth:`pause`."""
        if self._paused:
            self._paused = False
            self._pump()

    def unplug(self) -> None:
        """The device is gone: what is under way fails, and so does all that is asked later."""
        if self._gone:
            return
        for transfer in self._transfers.take_all():
            self._answer(transfer, Status.IOERROR)
        self._streams.clear()
        self._gone = True
        if self._connected:
            self._send(DeviceDisconnect())

    def close(self) -> None:
        """Let nothing happen any more."""
        self._gone = True
        self._transfers.take_all()
        self._streams.clear()

    # -- packets of the guest ---------------------------------------------------------------

    def _handle(self, packet_id: int, packet: Packet) -> None:
        match packet:
            case ControlPacket() | BulkPacket() | InterruptPacket():
                self._submit(Transfer(packet_id, packet))
            case CancelDataPacket():
                self._cancel(packet_id)
            case Hello():
                self._connect()
            case Reset():
                self._reset()
            case SetConfiguration(value):
                self._set_configuration(packet_id, value)
            case GetConfiguration():
                self._send_configuration(packet_id, self._status)
            case SetAltSetting(interface, alternate):
                self._set_alternate(packet_id, interface, alternate)
            case GetAltSetting(interface):
                self._send_alternate(packet_id, interface, self._interface_status(interface))
            case StartInterruptReceiving(endpoint):
                status = self._start(endpoint, TransferType.INTERRUPT)
                self._send(InterruptReceivingStatus(status, endpoint), packet_id)
                self._pump()
            case StopInterruptReceiving(endpoint) if not self._gone:
                self._streams.pop(endpoint, None)
                self._send(InterruptReceivingStatus(Status.SUCCESS, endpoint), packet_id)
            case StartBulkReceiving(_, length, endpoint, _):
                status = self._start(endpoint, TransferType.BULK, length)
                self._send(BulkReceivingStatus(0, endpoint, status), packet_id)
                self._pump()
            case StopBulkReceiving(_, endpoint) if not self._gone:
                self._streams.pop(endpoint, None)
                self._send(BulkReceivingStatus(0, endpoint, Status.SUCCESS), packet_id)
            case StartIsoStream(endpoint) | IsoPacket(endpoint):
                self._send(IsoStreamStatus(Status.STALL, endpoint), packet_id)
            case StopIsoStream(endpoint) if not self._gone:
                self._send(IsoStreamStatus(Status.SUCCESS, endpoint), packet_id)
            case AllocBulkStreams(endpoints, count):
                self._send(BulkStreamsStatus(endpoints, count, Status.INVAL), packet_id)
            case FreeBulkStreams(endpoints):
                self._send(BulkStreamsStatus(endpoints, 0, Status.INVAL), packet_id)
            case FilterReject() if not self._gone:
                raise RemoteProtocolError("the VM does not let the device in")
            case FilterFilter() | DeviceDisconnectAck():
                pass
            case _:
                assert self._gone, "the parser lets through what a guest may send"

    def _connect(self) -> None:
        if self._gone:
            return
        self._connected = True
        self._send_infos()
        description = self._description
        self._send(
            DeviceConnect(
                _USB_SPEEDS[description.speed],
                description.device_class.base,
                description.device_class.sub,
                description.device_class.protocol,
                description.ids.vendor_id,
                description.ids.product_id,
                description.release,
            )
        )

    def _reset(self) -> None:
        if self._gone or self._fresh:
            return
        for endpoint in list(self._streams):
            self._break_stream(endpoint)
        for transfer in self._transfers.take_all():
            self._answer(transfer, Status.CANCELLED)
        self._device.reset()
        self._fresh = True

    def _set_configuration(self, packet_id: int, value: int) -> None:
        status = self._status
        if not self._gone and value != self._device.configuration:
            self._fresh = False
            self._streams.clear()
            for transfer in self._transfers.take_all():
                self._answer(transfer, Status.CANCELLED)
            if not self._device.set_configuration(value):
                status = Status.IOERROR
            self._send_infos()
        self._send_configuration(packet_id, status)

    def _set_alternate(self, packet_id: int, interface: int, alternate: int) -> None:
        status = self._interface_status(interface)
        if status is Status.SUCCESS:
            self._fresh = False
            endpoints = self._device.endpoints_of(interface)
            for address in endpoints:
                self._streams.pop(address, None)
            for transfer in self._transfers.take_at(endpoints):
                self._answer(transfer, Status.CANCELLED)
            if self._device.set_alternate(interface, alternate):
                self._send_infos()
            else:
                status = Status.IOERROR
        self._send_alternate(packet_id, interface, status)

    @property
    def _status(self) -> Status:
        return Status.IOERROR if self._gone else Status.SUCCESS

    def _interface_status(self, interface: int) -> Status:
        if self._gone or self._device.has_interface(interface):
            return self._status
        return Status.INVAL

    def _send_configuration(self, packet_id: int, status: Status) -> None:
        self._send(ConfigurationStatus(status, self._device.configuration), packet_id)

    def _send_alternate(self, packet_id: int, interface: int, status: Status) -> None:
        known = not self._gone and self._device.has_interface(interface)
        self._send(AltSettingStatus(status, interface, 0 if known else _NO_ALTERNATE), packet_id)

    def _send_infos(self) -> None:
        endpoints = [Endpoint() for _ in range(ENDPOINT_COUNT)]
        for address in (0, INPUT):
            endpoints[endpoint_index(address)] = Endpoint(TransferType.CONTROL)
        for interface in self._device.interfaces:
            for endpoint in interface.endpoints:
                endpoints[endpoint_index(endpoint.address)] = Endpoint(
                    endpoint.type, endpoint.interval, interface.number, endpoint.max_packet_size
                )
        interfaces = tuple(
            Interface(interface.number, interface.usb_class)
            for interface in self._device.interfaces
        )
        self._send(InterfaceInfo(interfaces))
        self._send(EpInfo(tuple(endpoints)))

    # -- transfers --------------------------------------------------------------------------

    def _submit(self, transfer: Transfer) -> None:
        if self._gone:
            self._answer(transfer, Status.IOERROR)
        else:
            self._transfers.submit(transfer)

    def _arrive(self, transfer: Transfer) -> None:
        """The transfer reaches the device."""
        self._fresh = False
        packet = transfer.packet
        if isinstance(packet, ControlPacket):
            self._control(transfer, packet)
        elif not self._has(packet.endpoint, _TRANSFER_TYPES[packet.type]) or (
            isinstance(packet, BulkPacket) and packet.stream_id
        ):
            self._answer(transfer, Status.INVAL)
        else:
            self._transfers.wait(transfer)
        self._pump()

    def _has(self, address: int, kind: TransferType) -> bool:
        endpoint = self._device.endpoint(address)
        return endpoint is not None and endpoint.type is kind

    def _control(self, transfer: Transfer, packet: ControlPacket) -> None:
        if packet.endpoint not in (0, INPUT) or packet.endpoint != packet.requesttype & INPUT:
            self._answer(transfer, Status.INVAL)
            return
        setup = Setup(packet.requesttype, packet.request, packet.value, packet.index, packet.length)
        self._finish(transfer, self._device.control(setup, packet.data))

    def _pump(self) -> None:
        """Let the device answer what it can answer now.

        One transfer makes another possible (a command its data, its data the status), so it
        goes on until nothing moves, or the guest has enough to read for now.
        """
        moved = True
        while moved:
            moved = False
            for endpoint, queue in self._transfers.queues.items():
                while queue and not self._paused:
                    answer = self._offer(queue[0].packet)
                    if answer.handshake is Handshake.NAK:
                        break
                    self._finish(self._transfers.pop(endpoint), answer)
                    moved = True
            for address in list(self._streams):
                while not self._paused and self._read_ahead(address):
                    moved = True

    def _offer(self, packet: ControlPacket | BulkPacket | InterruptPacket) -> Answer:
        if packet.endpoint & INPUT:
            return self._device.data_in(packet.endpoint, packet.length)
        return self._device.data_out(packet.endpoint, packet.data)

    def _finish(self, transfer: Transfer, answer: Answer) -> None:
        packet = transfer.packet
        if len(answer.data) > packet.length:
            self._answer(transfer, Status.BABBLE, answer.data[: packet.length])
        else:
            self._answer(transfer, _HANDSHAKE_STATUS[answer.handshake], answer.data)

    def _answer(self, transfer: Transfer, status: Status, data: bytes = b"") -> None:
        packet = transfer.packet
        length = len(data)
        if not packet.endpoint & INPUT and status is Status.SUCCESS:
            length = packet.length
        self._send(replace(packet, status=status, length=length, data=data), transfer.id)

    def _cancel(self, packet_id: int) -> None:
        # Not to find it is no error: it may just have been answered.
        if transfer := self._transfers.take(packet_id):
            self._answer(transfer, Status.CANCELLED)

    # -- streams ----------------------------------------------------------------------------

    def _start(self, address: int, kind: TransferType, length: int | None = None) -> Status:
        """Start to read an endpoint ahead: packets of its own size, or ``length`` bytes."""
        endpoint = self._device.endpoint(address)
        if self._gone or endpoint is None or endpoint.type is not kind:
            return Status.STALL
        size = endpoint.max_packet_size if length is None else length
        if not size or size % endpoint.max_packet_size:
            return Status.STALL
        if address in self._streams:
            return Status.INVAL
        self._fresh = False
        self._streams[address] = _Stream(kind, size)
        return Status.SUCCESS

    def _read_ahead(self, address: int) -> bool:
        """Pass on what the endpoint has, if it has something; return whether it had."""
        stream = self._streams[address]
        answer = self._device.data_in(address, stream.length)
        if answer.handshake is Handshake.NAK:
            return False
        if answer.handshake is Handshake.STALL:
            # As the library does: clear the halt and go on, the guest need not know.
            self._device.clear_halt(address)
            if self._device.is_halted(address):
                self._break_stream(address)
                return False
            return True
        packet: InterruptPacket | BufferedBulkPacket
        if stream.type is TransferType.INTERRUPT:
            packet = InterruptPacket(address, Status.SUCCESS, len(answer.data), answer.data)
        else:
            packet = BufferedBulkPacket(0, len(answer.data), address, Status.SUCCESS, answer.data)
        self._send(packet, stream.next_id)
        stream.next_id += 1
        return True

    def _break_stream(self, address: int) -> None:
        """Stop a stream and tell the guest that it has to start it anew."""
        if self._streams.pop(address).type is TransferType.INTERRUPT:
            self._send(InterruptReceivingStatus(Status.STALL, address))
        else:
            self._send(BulkReceivingStatus(0, address, Status.STALL))

    def _send(self, packet: Packet, packet_id: int = 0) -> None:
        assert self._parser.caps is not None
        self._send_bytes(encode_packet(packet, packet_id=packet_id, caps=self._parser.caps))
