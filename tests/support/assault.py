"""A hostile VM against a usb-host, and what must become of that.

Its packets go the way of real ones: a continuity machine, and a usb-host behind it. Whatever
passes is held against the rules once more, by a decoder that is not the guard's.
"""

from __future__ import annotations

import re
import select
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from kubectl_vmredir.continuity.events import (
    CloseLink,
    DeviceAttached,
    DeviceGone,
    Event,
    GuestBytes,
    HostBytes,
    LinkEnded,
    LinkOpened,
    RestartSession,
    SendToHost,
)
from kubectl_vmredir.continuity.ledger import MAX_OPEN
from kubectl_vmredir.continuity.machine import ContinuityMachine
from kubectl_vmredir.model import Unknown
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    INPUT,
    NO_CAPS,
    Cap,
    PacketType,
    Side,
    TransferType,
    endpoint_address,
)
from kubectl_vmredir.protocol.control import (
    CancelDataPacket,
    ConfigurationStatus,
    GetConfiguration,
    StartBulkReceiving,
    StartInterruptReceiving,
    StartIsoStream,
    StopBulkReceiving,
    StopInterruptReceiving,
    StopIsoStream,
)
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket, InterruptPacket, IsoPacket
from kubectl_vmredir.protocol.description import DeviceConnect, EpInfo, Hello, InterfaceInfo
from kubectl_vmredir.protocol.layout import MAX_BULK_SIZE
from kubectl_vmredir.protocol.packets import Packet, encode_packet
from kubectl_vmredir.protocol.parser import Parser
from tests.support.hostile_vm import CAPS, Vm

ANSWER_TIMEOUT_S: Final = 20.0
READ_BYTES: Final = 1 << 18

FENCE_ID: Final = (1 << 64) - 7

REASONS: Final = {
    "unknown type": r"unknown packet type \d+",
    "not for a guest": r"\w+ is not for a usb-guest to send",
    "without cap": r"\w+ without cap \w+",
    "size": r"\w+ of \d+ bytes",
    "second hello": r"second hello",
    "before hello": r"\w+ before hello",
    "length": r"\w+ for endpoint 0x\w\w with a length of \d+ bytes",
    "data": r"\w+ for endpoint 0x\w\w with \d+ of \d+ bytes of data",
    "data against direction": r"\w+ for endpoint 0x\w\w with data against its direction",
    "against direction": r"\w+ for endpoint 0x\w\w against its direction",
    "endpoint": r"\w+ for endpoint 0x\w\w, which is not there or of another type",
    "output endpoint": r"\w+ for output endpoint 0x\w\w",
    "two directions": r"control_packet of two directions",
    "transfers of 0": r"start_bulk_receiving in transfers of 0 bytes",
    "transfers too long": r"start_bulk_receiving in transfers of \d\d\d+ bytes",
    "open requests": r"more than \d+ requests in flight",
    "bytes in flight": r"more than \d+ bytes in flight",
    "ack of nothing": r"device_disconnect_ack of no device_disconnect",
}
"""Why a guest is refused: all the reasons that there are, and what they read like."""


class Oracle:
    """Knows what a usb-host may get to see; reads whole packets, and nothing of the guard."""

    def __init__(self) -> None:
        self._parser = Parser(Side.GUEST, own_caps=ALL_CAPS)
        self._types: dict[int, TransferType] = {}
        self.open: set[int] = set()
        self.streams: set[tuple[PacketType, int]] = set()
        self.passed = 0

    def learn(self, ep_info: EpInfo) -> None:
        """Take note of what the device is like."""
        self._types = {
            endpoint_address(index): endpoint.type
            for index, endpoint in enumerate(ep_info.endpoints)
        }

    def check(self, data: bytes | memoryview) -> None:
        """Check what goes to the usb-host."""
        for header, packet in self._parser.feed(data):
            self.passed += 1
            match packet:
                case ControlPacket(endpoint=endpoint):
                    assert endpoint & ~INPUT == 0
                    assert not (endpoint ^ packet.requesttype) & INPUT
                    self.open.add(header.id)
                case BulkPacket(endpoint=endpoint):
                    assert self._types[endpoint] is TransferType.BULK
                    assert packet.length <= MAX_BULK_SIZE
                    assert len(packet.data) == (0 if endpoint & INPUT else packet.length)
                    self.open.add(header.id)
                case InterruptPacket(endpoint=endpoint):
                    assert self._types[endpoint] is TransferType.INTERRUPT
                    assert not endpoint & INPUT
                    self.open.add(header.id)
                case IsoPacket(endpoint=endpoint):
                    assert self._types[endpoint] is TransferType.ISO
                case StartInterruptReceiving(endpoint=endpoint):
                    assert self._types[endpoint] is TransferType.INTERRUPT
                    self.streams.add((PacketType.STOP_INTERRUPT_RECEIVING, endpoint))
                case StartBulkReceiving(endpoint=endpoint):
                    assert self._types[endpoint] is TransferType.BULK
                    assert 0 < packet.bytes_per_transfer <= MAX_BULK_SIZE
                    self.streams.add((PacketType.STOP_BULK_RECEIVING, endpoint))
                case StartIsoStream(endpoint=endpoint):
                    assert self._types[endpoint] is TransferType.ISO
                    self.streams.add((PacketType.STOP_ISO_STREAM, endpoint))
                case _:
                    pass
            assert len(self.open) <= MAX_OPEN

    def answered(self, packet_id: int) -> None:
        """Take note of an answer of the usb-host."""
        self.open.discard(packet_id)


class Assault:
    """One usb-host under the packets of one VM after the other; blocks, so run it in a thread.

    Attributes:
        sent: Packets and faults that were sent.
        right: Those of them that were right by construction.
        reasons: How often each of :data:`REASONS` was given.
        passed: Packets that reached the usb-host.

    Args:
        data: The data socket of a usb-host that has claimed its device.
        seed: Of the random choices.
    """

    def __init__(self, data: socket.socket, seed: int) -> None:
        data.setblocking(False)
        self.sent = self.right = 0
        self.reasons: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self._data = data
        self._random = Random(seed)
        self._vm = Vm(self._random)
        self._oracle = Oracle()
        self._host = Parser(Side.HOST, own_caps=CAPS)
        self._latest: dict[type[Packet], Packet] = {}
        self._fenced = False
        self._machine: ContinuityMachine | None = None
        self._over = False
        self._attached = False

    @property
    def passed(self) -> int:
        """Packets that reached the usb-host."""
        return self._oracle.passed

    @property
    def _caps(self) -> Cap:
        """The agreed capabilities."""
        caps = self._host.caps
        assert caps is not None, "the usb-host has not said hello"
        return caps

    def run(self, packets: int) -> None:
        """Send so many packets."""
        self._first_life()
        while self.sent < packets:
            if self._over:
                self._next_life()
            elif self._random.random() < 0.002:
                self._lose_link()
            else:
                self._send(self._draw())
        if not self._over:
            self._feed(LinkEnded(Unknown()))

    def _draw(self) -> bytes:
        self.sent += 1
        if self._random.random() < 0.6:
            self.right += 1
            return self._vm.right()
        return self._vm.wrong()

    def _send(self, data: bytes) -> None:
        """Send it in one piece or two, as a stream may bring it."""
        cut = self._random.randrange(len(data)) if self._random.random() < 0.3 else 0
        for piece in (data[:cut], data[cut:]):
            if piece and not self._over:
                self._feed(GuestBytes(memoryview(piece)))
        self._pump()

    # -- lives of sessions --------------------------------------------------------------------

    def _first_life(self) -> None:
        self._machine, self._over = ContinuityMachine(), False
        self._feed(LinkOpened())
        self._greet()

    def _next_life(self) -> None:
        """Start a session over, as if with a new usb-host: what the old one left is undone."""
        for leftover in self._leftovers():
            self._to_host(leftover)
        self._oracle.open.clear()
        self._oracle.streams.clear()
        self._fenced = False
        self._machine = None
        self._wait_for(lambda: self._fenced)
        self._machine, self._over, self._attached = ContinuityMachine(), False, False
        self._introduce(Hello)
        self._feed(LinkOpened())
        if self._random.random() < 0.1:
            self.sent += 1
            self._feed(GuestBytes(memoryview(self._vm.right())))  # before hello
            return
        self._feed(GuestBytes(memoryview(_hello())), forward=False)
        for kind in (InterfaceInfo, EpInfo, DeviceConnect):
            self._introduce(kind)
        assert self._attached

    def _introduce(self, kind: type[Packet]) -> None:
        """Let the usb-host say again what it said last."""
        packet = self._latest[kind]
        data = encode_packet(packet, packet_id=0, caps=NO_CAPS if kind is Hello else self._caps)
        self._feed(HostBytes(memoryview(data)))

    def _lose_link(self) -> None:
        """Have the link end and another one begin: the machine itself cleans up."""
        self._feed(LinkEnded(Unknown()))
        self._attached = False
        self._feed(LinkOpened())
        self._greet()

    def _greet(self) -> None:
        self._feed(GuestBytes(memoryview(_hello())))
        self._wait_for(lambda: self._attached)

    def _leftovers(self) -> Iterator[bytes]:
        for packet_id in sorted(self._oracle.open):
            yield encode_packet(CancelDataPacket(), packet_id=packet_id, caps=self._caps)
        for packet_type, endpoint in sorted(self._oracle.streams):
            stop: Packet
            match packet_type:
                case PacketType.STOP_ISO_STREAM:
                    stop = StopIsoStream(endpoint)
                case PacketType.STOP_BULK_RECEIVING:
                    stop = StopBulkReceiving(0, endpoint)
                case _:
                    stop = StopInterruptReceiving(endpoint)
            yield encode_packet(stop, packet_id=0, caps=self._caps)
        yield encode_packet(GetConfiguration(), packet_id=FENCE_ID, caps=self._caps)

    # -- bytes --------------------------------------------------------------------------------

    def _feed(self, event: Event, *, forward: bool = True) -> None:
        assert self._machine is not None
        for effect in self._machine.handle(event):
            match effect:
                case SendToHost(data=data) if forward:
                    self._to_host(data)
                case RestartSession(reason=reason) | CloseLink(reason=reason):
                    self._over = True
                    self._count(reason)
                case DeviceAttached():
                    self._attached = True
                case DeviceGone():
                    raise AssertionError("the usb-host gave its device up")
                case _:
                    pass

    def _count(self, reason: str) -> None:
        assert reason.startswith("the guest's QEMU broke the protocol: "), reason
        text = reason.partition(": ")[2]
        found = [name for name, pattern in REASONS.items() if re.fullmatch(pattern, text)]
        assert len(found) == 1, f"{text!r} is {found}"
        self.reasons[found[0]] += 1

    def _to_host(self, data: bytes | memoryview) -> None:
        self._oracle.check(data)
        rest = memoryview(data)
        while rest:
            readable, writable, _ = select.select([self._data], [self._data], [], ANSWER_TIMEOUT_S)
            assert readable or writable, "the usb-host hangs"
            if writable:
                rest = rest[self._data.send(rest) :]
            elif readable:
                self._read()

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition():
            readable, _, _ = select.select([self._data], [], [], ANSWER_TIMEOUT_S)
            assert readable, "the usb-host hangs"
            self._read()

    def _pump(self) -> None:
        while select.select([self._data], [], [], 0)[0]:
            self._read()

    def _read(self) -> None:
        data = self._data.recv(READ_BYTES)
        assert data, "the usb-host has ended"
        for header, packet in self._host.feed(data):
            match packet:
                case EpInfo():
                    self._vm.learn(packet)
                    self._oracle.learn(packet)
                    self._latest[EpInfo] = packet
                case Hello() | InterfaceInfo() | DeviceConnect():
                    self._latest[type(packet)] = packet
                case ConfigurationStatus() if header.id == FENCE_ID:
                    self._fenced = True
                case _:
                    self._oracle.answered(header.id)
        if self._machine is not None and not self._over:
            self._feed(HostBytes(memoryview(data)))


def _hello() -> bytes:
    return encode_packet(Hello("a hostile VM", CAPS), packet_id=0, caps=NO_CAPS)
