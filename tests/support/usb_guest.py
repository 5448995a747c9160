"""A usb-guest with a script, and what it needs: a clock that stands still, a mass storage host."""

from __future__ import annotations

import heapq
import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from kubectl_vmredir.lab.devices.function import Function
from kubectl_vmredir.lab.devices.host import UsbHost
from kubectl_vmredir.protocol.constants import ALL_CAPS, INPUT, NO_CAPS, Cap, Side, Status
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket
from kubectl_vmredir.protocol.description import Hello
from kubectl_vmredir.protocol.packets import Packet, encode_packet
from kubectl_vmredir.protocol.parser import Parser


@dataclass(order=True)
class SetTimer:
    when: float
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class TimerClock:
    """A clock of callbacks that a test turns."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[SetTimer] = []

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> SetTimer:
        timer = SetTimer(when, callback)
        heapq.heappush(self._timers, timer)
        return timer

    @property
    def timers(self) -> int:
        """How many callbacks are due some time."""
        return sum(not timer.cancelled for timer in self._timers)

    def advance(self, seconds: float) -> None:
        """Let time pass, and call what became due on the way."""
        end = self._now + seconds
        while self._timers and self._timers[0].when <= end:
            timer = heapq.heappop(self._timers)
            self._now = max(self._now, timer.when)
            if not timer.cancelled:
                timer.callback()
        self._now = end


class GuestCodec:
    """Bytes and packets of a guest, whatever carries them."""

    def __init__(self, caps: Cap = ALL_CAPS) -> None:
        self.own_caps = caps
        self._parser = Parser(Side.HOST, own_caps=caps)
        self._ids = itertools.count(1)

    def next_id(self) -> int:
        return next(self._ids)

    def hello(self) -> bytes:
        return encode_packet(Hello("a guest", self.own_caps), packet_id=0, caps=NO_CAPS)

    def encode(self, packet: Packet, packet_id: int) -> bytes:
        caps = self._parser.caps
        assert caps is not None, "the usb-host has not said hello"
        return encode_packet(packet, packet_id=packet_id, caps=caps)

    def decode(self, data: bytes) -> list[tuple[int, Packet]]:
        return [(header.id, packet) for header, packet in self._parser.feed(data)]


class Guest:
    """A guest right behind a usb-host: every answer that comes at once is there at once."""

    def __init__(self, function: Function, *, caps: Cap = ALL_CAPS, latency_s: float = 0.0) -> None:
        self.clock = TimerClock()
        self.codec = GuestCodec(caps)
        self.received: list[tuple[int, Packet]] = []
        self.host = UsbHost(function, self._take, clock=self.clock, latency_s=latency_s)

    def connect(self) -> list[Packet]:
        """Exchange hellos; return what came after the usb-host's own."""
        self.host.start()
        self.host.receive(self.codec.hello())
        return [packet for _, packet in self.pull()[1:]]

    def pull(self) -> list[tuple[int, Packet]]:
        """Return what came since the last call, with ids."""
        received, self.received = self.received, []
        return received

    def send(self, packet: Packet, packet_id: int = 0) -> None:
        self.host.receive(self.codec.encode(packet, packet_id))

    def ask(self, packet: Packet, packet_id: int = 77) -> list[Packet]:
        """Send a packet; return what came for it, which must carry its id or none."""
        self.send(packet, packet_id)
        received = self.pull()
        assert all(answer_id in (0, packet_id) for answer_id, _ in received)
        return [answer for _, answer in received]

    def control(
        self,
        request_type: int,
        request: int,
        value: int,
        index: int,
        length: int,
        data: bytes = b"",
    ) -> tuple[Status, bytes]:
        """Do a control transfer."""
        packet = ControlPacket(
            request_type & INPUT,
            request,
            request_type,
            Status.SUCCESS,
            value,
            index,
            length,
            data,
        )
        [answer] = self.ask(packet, self.codec.next_id())
        assert isinstance(answer, ControlPacket)
        return answer.status, answer.data

    def bulk_out(self, endpoint: int, data: bytes) -> int:
        """Start an OUT transfer; return its id."""
        packet_id = self.codec.next_id()
        self.send(BulkPacket(endpoint, Status.SUCCESS, len(data), data=data), packet_id)
        return packet_id

    def bulk_in(self, endpoint: int, length: int) -> int:
        """Start an IN transfer; return its id."""
        packet_id = self.codec.next_id()
        self.send(BulkPacket(endpoint, Status.SUCCESS, length), packet_id)
        return packet_id

    def _take(self, data: bytes) -> None:
        self.received += self.codec.decode(data)


def cbw(
    cdb: bytes,
    length: int = 0,
    *,
    to_host: bool = True,
    tag: int = 0x11223344,
    unit: int = 0,
    signature: bytes = b"USBC",
    cdb_length: int | None = None,
    flags: int | None = None,
) -> bytes:
    """Return a command block wrapper."""
    return struct.pack(
        "<4sIIBBB16s",
        signature,
        tag,
        length,
        (0x80 if to_host else 0) if flags is None else flags,
        unit,
        len(cdb) if cdb_length is None else cdb_length,
        cdb,
    )


def csw(status: int, residue: int = 0, *, tag: int = 0x11223344) -> bytes:
    """Return a command status wrapper."""
    return struct.pack("<4sIIB", b"USBS", tag, residue, status)


def read_10(block: int, count: int) -> bytes:
    return struct.pack(">BxIxHx", 0x28, block, count)


def write_10(block: int, count: int) -> bytes:
    return struct.pack(">BxIxHx", 0x2A, block, count)
