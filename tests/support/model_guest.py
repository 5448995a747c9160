"""A usb-guest as small as can be, which fails on what would confuse or abort a QEMU.

It asks like QEMU's redirect.c, and raises :class:`AssertionError` at an answer that it did not
ask for, or out of turn, at data of streams that it did not start, at a device that comes
twice, and so on. It has neither time nor sockets: the bytes that it sends wait in ``outbox``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kubectl_vmredir.protocol.constants import (
    NO_CAPS,
    Cap,
    PacketType,
    Side,
    Status,
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
    EpInfo,
    Hello,
    InterfaceInfo,
)
from kubectl_vmredir.protocol.packets import Packet, encode_packet
from kubectl_vmredir.protocol.parser import Parser
from tests.support.model_host import (
    BUFFERED_IN,
    BULK_IN,
    BULK_OUT,
    INTERRUPT_IN,
    INTERRUPT_OUT,
    ISO_IN,
    ISO_OUT,
)


@dataclass(eq=False)
class _Asked:
    id: int
    packet: Packet
    cancelled: bool = False

    @property
    def is_about_bulk_streams(self) -> bool:
        """Whether it is a command that QEMU does not wait for."""
        return isinstance(self.packet, AllocBulkStreams | FreeBulkStreams)

    def fits(self, answer: Packet) -> bool:
        """Return whether this can be the answer, but for the id."""
        match self.packet, answer:
            case (ControlPacket(), ControlPacket()):
                return True
            case (BulkPacket(endpoint=endpoint), BulkPacket()):
                return answer.endpoint == endpoint
            case (InterruptPacket(endpoint=endpoint), InterruptPacket()):
                return answer.endpoint == endpoint
            case (SetConfiguration() | GetConfiguration(), ConfigurationStatus()):
                return True
            case (SetAltSetting() | GetAltSetting(), AltSettingStatus()):
                return True
            case (AllocBulkStreams() | FreeBulkStreams(), BulkStreamsStatus()):
                return True
            case _:
                return False


class ModelGuest:
    """The usb-guest of one link.

    Args:
        number: Number of the guest.
        caps: What it can.
        generation: The usb-host's, when the link was opened: no stream of it may be seen.

    Attributes:
        outbox: Bytes that it has sent.
        requests: Requests that were not answered.
        attached: Whether it has the device.
        connects: How often it got it.
        sent_serials: Serial numbers of its stamped requests.
        alternate: Whether it has chosen the alternate setting with iso endpoints.
        rejected: Whether it has turned the device away.
        heard_answers: How many answers it got.
        heard_streams: How many packets of streams it got.
        pokes: How many pokes it got.
    """

    def __init__(self, number: int, caps: Cap, *, generation: int) -> None:
        self.number = number
        self.outbox = bytearray()
        self.requests: list[_Asked] = []
        self.attached = False
        self.connects = 0
        self.sent_serials: list[int] = []
        self.alternate = False
        self.rejected = False
        self._configured = 1
        self._caps = caps
        self._first_generation = generation
        self._statuses_due: dict[int, int] = {}
        self._started: set[int] = set()
        self._described: list[PacketType] = []
        self.heard_answers = 0
        self.heard_streams = 0
        self.pokes = 0
        self._last_count = 0
        self._parser = Parser(Side.HOST, own_caps=caps)
        self._length = 100 * number
        self.outbox += encode_packet(Hello("model guest", caps), packet_id=0, caps=NO_CAPS)

    @property
    def caps(self) -> Cap:
        """The agreed capabilities."""
        return self._parser.caps or NO_CAPS

    # -- what it asks for -------------------------------------------------------------------

    def transfer(self, kind: int, packet_id: int, *, stamps: int = 0) -> None:
        """Ask for a transfer of one of the kinds that the device has.

        Args:
            kind: Which.
            packet_id: Its id.
            stamps: Length of a bulk output, in stamps of 8 bytes; 0 for one of many lengths.
        """
        if not self.attached or packet_id in self._ids():
            return
        serial = len(self.sent_serials) + 1
        stamp = struct.pack("<II", self.number, serial)
        self._length += 1
        ok, length = Status.SUCCESS, self._length
        match kind % 6:
            case 0:
                self._ask(ControlPacket(0x80, 6, 0x80, ok, self.number, serial, length), packet_id)
            case 1:
                packet = ControlPacket(0, 9, 0, ok, self.number, serial, len(stamp), stamp)
                self._ask(packet, packet_id)
            case 2:
                self._ask(BulkPacket(BULK_IN, ok, length), packet_id)
                return
            case 3:
                data = stamp * (stamps or 1 + serial % 40)
                self._ask(BulkPacket(BULK_OUT, ok, len(data), 0, data), packet_id)
            case 4:
                self._ask(InterruptPacket(INTERRUPT_OUT, ok, len(stamp), stamp), packet_id)
            case 5 if self.alternate:
                self._send(IsoPacket(ISO_OUT, ok, len(stamp), stamp))
            case _:
                return
        self.sent_serials.append(serial)

    def cancel(self, choice: int, *, unknown: bool) -> None:
        """Cancel a request, or one that nobody knows of."""
        if self._parser.caps is None:
            return
        if unknown:
            self._send(CancelDataPacket(), 9999)
            return
        transfers = [
            asked
            for asked in self.requests
            if isinstance(asked.packet, ControlPacket | BulkPacket) and not asked.cancelled
        ]
        if transfers:
            asked = transfers[choice % len(transfers)]
            asked.cancelled = True
            self._send(CancelDataPacket(), asked.id)

    def start_or_stop(self, choice: int) -> None:
        """Start a stream, or stop it if it was started."""
        endpoints = [INTERRUPT_IN]
        if Cap.BULK_RECEIVING in self.caps:
            endpoints.append(BUFFERED_IN)
        if self.alternate:
            endpoints += [ISO_IN, ISO_OUT]
        endpoint = endpoints[choice % len(endpoints)]
        if not self.attached:
            return
        self._statuses_due[endpoint] = self._statuses_due.get(endpoint, 0) + 1
        starts = endpoint not in self._started
        (self._started.add if starts else self._started.remove)(endpoint)
        match endpoint:
            case 0x83:
                self._send(
                    StartInterruptReceiving(endpoint)
                    if starts
                    else StopInterruptReceiving(endpoint)
                )
            case 0x87:
                self._send(
                    StartBulkReceiving(0, 512, endpoint, 5)
                    if starts
                    else StopBulkReceiving(0, endpoint)
                )
            case _:
                self._send(StartIsoStream(endpoint, 8, 4) if starts else StopIsoStream(endpoint))

    def command(self, kind: int, packet_id: int) -> None:
        """Send a command, if nothing is under way that it could harm."""
        if not self.attached or packet_id in self._ids():
            return
        quiet = not self.requests and not self._started
        match kind % 6:
            case 0 if quiet:
                self._configured = 3 - self._configured
                self.alternate = False
                self._ask(SetConfiguration(self._configured), packet_id)
            case 1:
                self._ask(GetConfiguration(), packet_id)
            case 2 if quiet:
                self._ask(SetAltSetting(1, 0 if self.alternate else 1), packet_id)
                self.alternate = False  # a driver uses no endpoint until it has the answer
            case 3:
                self._ask(GetAltSetting(1), packet_id)
            case 4:
                self._send(Reset())
                self._started.clear()
            case 5 if Cap.BULK_STREAMS in self.caps:
                bit = 1 << endpoint_index(BULK_IN)
                self._ask(
                    AllocBulkStreams(bit, 4) if packet_id % 2 else FreeBulkStreams(bit), packet_id
                )
            case _:
                pass

    def reject(self) -> None:
        """Turn the device away, as QEMU does when it does not fit."""
        if self.attached:
            self.attached = False
            self.rejected = True
            self._send(FilterReject())

    def _ids(self) -> set[int]:
        return {asked.id for asked in self.requests if not asked.cancelled}

    def _ask(self, packet: Packet, packet_id: int) -> None:
        self.requests.append(_Asked(packet_id, packet))
        self._send(packet, packet_id)

    # -- what it hears ----------------------------------------------------------------------

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes of the usb-host."""
        for header, packet in self._parser.feed(data):
            self._handle(header.id, packet)

    def _handle(self, packet_id: int, packet: Packet) -> None:
        match packet:
            case Hello():
                pass  # the parser has seen to it that it is the first and only one
            case InterfaceInfo() | EpInfo():
                self._described.append(packet.type)
            case DeviceConnect():
                assert not self.attached, "connected twice"
                assert not self.rejected, "connected though rejected"
                wanted = [PacketType.INTERFACE_INFO, PacketType.EP_INFO]
                assert self._described[-2:] == wanted, "connected without a description"
                self.attached = True
                self.connects += 1
            case DeviceDisconnect():
                assert self.attached or self.rejected, "disconnected from nothing"
                self.attached = False
                if Cap.DEVICE_DISCONNECT_ACK in self.caps:
                    self._send(DeviceDisconnectAck())
            case InterruptReceivingStatus(endpoint=0x80):
                self.pokes += 1
            case _ if self.rejected:
                pass  # QEMU knows nothing of it any more
            case _:
                assert self.attached, f"{packet} without a device"
                self._handle_answer(packet_id, packet)

    def _handle_answer(self, packet_id: int, packet: Packet) -> None:
        match packet:
            case ControlPacket() | BulkPacket() | InterruptPacket(endpoint=0x04):
                self._answered(packet_id, packet)
            case InterruptPacket(endpoint=endpoint) | IsoPacket(endpoint=endpoint):
                self._stamped(endpoint, packet.data)
            case BufferedBulkPacket(endpoint=endpoint):
                self._stamped(endpoint, packet.data)
            case IsoStreamStatus() | InterruptReceivingStatus() | BulkReceivingStatus():
                self._stream_status(packet_id, packet.endpoint, packet.status)
            case ConfigurationStatus() | AltSettingStatus() | BulkStreamsStatus():
                self._answered(packet_id, packet)
            case _:
                raise AssertionError(f"not for a guest: {packet}")

    def _answered(self, packet_id: int, answer: Packet) -> None:
        lane = [asked for asked in self.requests if asked.fits(answer)]
        asked = next((asked for asked in lane if asked.id == packet_id), None)
        assert asked is not None, f"nobody asked: {packet_id} {answer}"
        if isinstance(answer, BulkPacket) and not asked.cancelled:
            before = lane[: lane.index(asked)]
            assert all(earlier.cancelled for earlier in before), "out of turn: QEMU aborts"
        self.requests.remove(asked)
        self.heard_answers += 1
        match asked.packet, answer:
            case ControlPacket() as request, ControlPacket():
                assert (answer.value, answer.index) == (request.value, request.index)
                self._count(answer.data)
            case BulkPacket() as request, BulkPacket(data=data) if data:
                assert len(data) == request.length, "the answer to another request"
                self._count(data)
            case SetAltSetting(alt=alt), AltSettingStatus(status=Status.SUCCESS):
                self.alternate = alt == 1
            case _:
                pass

    def _stamped(self, endpoint: int, data: bytes) -> None:
        assert endpoint in self._statuses_due, "a stream that it never started"
        _, generation = struct.unpack_from("<II", data)
        assert generation > self._first_generation, "a stream of a former guest"
        self.heard_streams += 1
        self._count(data)

    def _count(self, data: bytes) -> None:
        if data:
            (count, _) = struct.unpack_from("<II", data)
            assert count > self._last_count, "out of order, or twice"
            self._last_count = count

    def _stream_status(self, packet_id: int, endpoint: int, status: Status) -> None:
        assert endpoint in self._statuses_due, "status of a stream that it never started"
        if status is Status.STALL:
            # Of a stream that broke: it carries the generation in place of an id.
            assert packet_id == 0 or packet_id > self._first_generation, "of a former guest"
            self._started.discard(endpoint)
        else:
            self._statuses_due[endpoint] -= 1
            assert self._statuses_due[endpoint] >= 0, "more statuses than starts and stops"

    def _send(self, packet: Packet, packet_id: int = 0) -> None:
        self.outbox += encode_packet(packet, packet_id=packet_id, caps=self.caps)
