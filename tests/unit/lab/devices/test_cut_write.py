"""A link that is lost in the middle of a write: what is on the stick afterwards."""

from __future__ import annotations

from random import Random
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.continuity.events import (
    DeviceAttached,
    Event,
    GuestBytes,
    HostBytes,
    LinkEnded,
    LinkOpened,
    RestartSession,
    SendToGuest,
    SendToHost,
)
from kubectl_vmredir.continuity.machine import ContinuityMachine
from kubectl_vmredir.lab.devices.host import UsbHost
from kubectl_vmredir.lab.devices.stick import BULK_IN, BULK_OUT, Stick
from kubectl_vmredir.model import Unknown
from kubectl_vmredir.protocol.constants import Status
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket
from kubectl_vmredir.protocol.packets import Packet
from tests.support.usb_guest import GuestCodec, TimerClock, cbw, csw, read_10, write_10

SECTOR: Final = 512
SECTORS: Final = 24
OLD: Final = Random(1).randbytes(SECTOR * SECTORS)
NEW: Final = Random(2).randbytes(SECTOR * SECTORS)
RESET_RECOVERY: Final = (
    ControlPacket(0, 0xFF, 0x21, Status.SUCCESS, 0, 0, 0),
    ControlPacket(0, 1, 0x02, Status.SUCCESS, 0, BULK_IN, 0),
    ControlPacket(0, 1, 0x02, Status.SUCCESS, 0, BULK_OUT, 0),
)
"""Bulk-only transport 1.0, section 5.3.4: what a driver does before its first command."""


class World:
    """A stick, the continuity of its session, and one guest after the other."""

    def __init__(self) -> None:
        self.stick = Stick("S1", OLD)
        self.machine = ContinuityMachine()
        self.host = UsbHost(self.stick, self._from_host, clock=TimerClock())
        self.codec = GuestCodec()
        self.received: list[tuple[int, Packet]] = []
        self.attached = False
        self.host.start()

    def plug_in(self) -> None:
        """Open a link to a new guest, which takes the device."""
        self.codec = GuestCodec()
        self.received.clear()
        self.attached = False
        self.feed(LinkOpened())
        self.feed(GuestBytes(memoryview(self.codec.hello())))
        assert self.attached
        self.probe()

    def feed(self, event: Event) -> None:
        for effect in self.machine.handle(event):
            match effect:
                case SendToHost(data=data):
                    self.host.receive(bytes(data))
                case SendToGuest(data=data):
                    self.received += self.codec.decode(bytes(data))
                case DeviceAttached():
                    self.attached = True
                case RestartSession(reason=reason):
                    raise AssertionError(reason)
                case _:
                    pass

    def encode(self, *packets: Packet) -> bytes:
        return b"".join(self.codec.encode(packet, self.codec.next_id()) for packet in packets)

    def ask(self, packet: Packet) -> bytes:
        """Do a transfer; return its data."""
        self.received.clear()
        self.feed(GuestBytes(memoryview(self.encode(packet))))
        [(_, answer)] = self.received
        assert isinstance(answer, BulkPacket | ControlPacket)
        assert answer.status is Status.SUCCESS
        return answer.data

    def probe(self) -> None:
        """Get the stick ready, as a driver does that has just met it."""
        for packet in RESET_RECOVERY:
            self.ask(packet)
        ready = cbw(bytes(6))  # TEST UNIT READY: what a reset leaves to say is said to that
        self.ask(BulkPacket(BULK_OUT, Status.SUCCESS, len(ready), data=ready))
        self.ask(BulkPacket(BULK_IN, Status.SUCCESS, 13))

    def read(self) -> bytes:
        """Read the whole stick."""
        command = cbw(read_10(0, SECTORS), len(OLD))
        self.ask(BulkPacket(BULK_OUT, Status.SUCCESS, len(command), data=command))
        data = self.ask(BulkPacket(BULK_IN, Status.SUCCESS, len(OLD)))
        assert self.ask(BulkPacket(BULK_IN, Status.SUCCESS, 13)) == csw(0)
        return data

    def _from_host(self, data: bytes) -> None:
        self.feed(HostBytes(memoryview(data)))


def write_of(data: bytes, piece: int) -> list[Packet]:
    """Return the transfers of one write of the whole stick."""
    command = cbw(write_10(0, SECTORS), len(data), to_host=False)
    pieces = [command, *(data[at : at + piece] for at in range(0, len(data), piece))]
    return [
        *(BulkPacket(BULK_OUT, Status.SUCCESS, len(one), data=one) for one in pieces),
        BulkPacket(BULK_IN, Status.SUCCESS, 13),
    ]


@given(
    cut=st.integers(0, 1000),
    piece=st.sampled_from([64, 512, 700, 1024, 4096, len(NEW)]),
    chunk=st.sampled_from([1, 100, 1 << 20]),
)
def test_each_sector_is_old_or_new_and_no_write_is_repeated(
    cut: int, piece: int, chunk: int
) -> None:
    world = World()
    world.plug_in()
    sent = world.encode(*write_of(NEW, piece))
    sent = sent[: cut * len(sent) // 1000]

    for at in range(0, len(sent), chunk):
        world.feed(GuestBytes(memoryview(sent[at : at + chunk])))
    written = world.stick.bytes_written
    world.feed(LinkEnded(Unknown()))
    world.plug_in()
    now = world.read()

    assert world.stick.bytes_written == written <= len(NEW)
    for at in range(0, len(now), SECTOR):
        old, new = (image[at : at + SECTOR] for image in (OLD, NEW))
        assert now[at : at + SECTOR] in (old, new)
        assert at >= written or now[at : at + SECTOR] == new
    assert (cut == 1000) <= (written == len(NEW))
