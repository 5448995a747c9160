"""Random histories of a usb-host, guests that come and go, and the machine between them.

Bytes wait in four pipes, and move in pieces of any size at any time. What the models assert
holds at every moment: no answer reaches a guest that did not ask, none comes twice or out of
turn, no data of a former guest's streams. The rest is asserted here.
"""

from __future__ import annotations

from random import Random
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_vmredir.continuity.events import (
    CloseLink,
    Consumed,
    DetachRequested,
    DeviceAttached,
    DeviceDetached,
    DeviceGone,
    DeviceRejected,
    Event,
    GuestBytes,
    GuestWritable,
    HostBytes,
    HostEnded,
    HostWritable,
    LinkEnded,
    LinkOpened,
    LinkSpliced,
    PokeWanted,
    ReadGuest,
    ReadHost,
    SendToGuest,
    SendToHost,
    Settled,
)
from kubectl_vmredir.continuity.machine import ContinuityMachine
from kubectl_vmredir.continuity.state import State
from kubectl_vmredir.model import Unknown
from kubectl_vmredir.protocol.constants import ALL_CAPS, NO_CAPS, Cap, PacketType, Side, Status
from kubectl_vmredir.protocol.spans import Span, SpanTracker
from tests.support.model_guest import ModelGuest
from tests.support.model_host import ModelHost

STEPS: Final = 300
IDS: Final = range(1, 11)
"""Few, so that they are used again soon."""
ALL: Final = 1 << 30
USES: Final = frozenset(
    {
        PacketType.SET_CONFIGURATION,
        PacketType.SET_ALT_SETTING,
        PacketType.START_ISO_STREAM,
        PacketType.START_INTERRUPT_RECEIVING,
        PacketType.START_BULK_RECEIVING,
    }
)
"""Commands after which a reset of the device makes a difference, as those that carry data do."""

CAPS: Final = [
    ALL_CAPS,
    ALL_CAPS & ~Cap.IDS_64BITS,
    ALL_CAPS & ~Cap.DEVICE_DISCONNECT_ACK,
    ALL_CAPS & ~Cap.BULK_LENGTH_32BITS,
    NO_CAPS,
]


class World:
    """One usb-host, one machine, and one guest at a time.

    Args:
        random: Chooses what happens.
        host_caps: What the usb-host can.
        guest_caps: What all the guests can.
    """

    def __init__(self, random: Random, host_caps: Cap, guest_caps: Cap) -> None:
        self.random = random
        self.machine = ContinuityMachine()
        self.host = ModelHost(host_caps)
        self.guest_caps = guest_caps
        self.guest: ModelGuest | None = None
        self.guests: list[ModelGuest] = []
        self.to_host = bytearray()
        self.to_guest = bytearray()
        self.reads_host = self.reads_guest = True
        self.attached = self.detaching = False
        self.settled_told = True
        self.host_ended = self.close_wanted = False
        self.sent = 0
        self.splices = 0
        self.resets = 0
        self.used = False
        self.to_host_check = SpanTracker(Side.GUEST, own_caps=host_caps)

    # -- what may happen --------------------------------------------------------------------

    def step(self) -> None:
        """Let one thing happen, the likely ones more often."""
        random, guest = self.random, self.guest
        choice = random.randrange(1 << 16)
        writable = random.random() < 0.8
        always = {
            self.some_bytes_move: 8,
            self.all_bytes_move: 12,
            lambda: self.host.complete(choice, random.choice([Status.SUCCESS, Status.STALL])): 10,
            lambda: self.host.stream(choice): 8,
            lambda: self.host.break_stream(choice): 0.3,
            lambda: self.feed(HostWritable(writable)): 0.5,
            self.host.disconnect: 0.05,
            self.host.connect: 1,
        }
        if guest is None:
            linked = {self.open_link: 8.0}
        else:
            linked = {
                lambda: guest.transfer(choice, random.choice(IDS)): 12,
                lambda: guest.cancel(choice, unknown=random.random() < 0.1): 1.5,
                lambda: guest.start_or_stop(choice): 3,
                lambda: guest.command(choice, random.choice(IDS)): 2,
                lambda: self.feed(GuestWritable(writable)): 0.5,
                self.end_link: 0.5,
                self.splice: 0.5,
                self.consume: 2,
                lambda: self.feed(PokeWanted()): 1,
                self.detach: 0.1,
                self.reject: 0.02,
            }
        steps = always | linked
        random.choices(list(steps), list(steps.values()))[0]()

    def open_link(self) -> None:
        if not self.host_ended:
            number = len(self.guests) + 1
            self.guest = ModelGuest(number, self.guest_caps, generation=self.host.generation)
            self.guests.append(self.guest)
            self.reads_guest = True
            self.sent = 0
            self.feed(LinkOpened(counts=self.random.random() < 0.7))

    def end_link(self) -> None:
        self.guest = None
        self.to_guest.clear()
        self.attached = self.close_wanted = False
        self.feed(LinkEnded(Unknown()))
        assert not self.detaching

    def consume(self) -> None:
        self.feed(Consumed(self.sent - len(self.to_guest)))

    def splice(self) -> None:
        """Have the guest's QEMU go on in another process, somewhere in the middle of a packet."""
        if self.guest is None or not self.machine.can_splice:
            return
        if self.guest.outbox:  # what the old link has received comes first
            self.feed(GuestBytes(memoryview(take(self.guest.outbox, ALL))))
        if not self.machine.can_splice:
            return
        unread = take(self.to_guest, ALL)
        offset, self.sent = self.sent - len(unread), 0
        self.reads_guest = True
        self.splices += 1
        self.feed(LinkSpliced(offset))
        assert self.to_guest == unread

    def detach(self) -> None:
        if not self.detaching:
            self.detaching = True
            self.feed(DetachRequested())

    def reject(self) -> None:
        # Without the cap a guest may not say so; and our device_disconnect may be on its way.
        if self.guest and Cap.FILTER in self.guest.caps and not self.detaching:
            self.guest.reject()

    def end_host(self) -> None:
        self.host_ended = True
        self.feed(HostEnded())

    def some_bytes_move(self) -> None:
        sizes = [1, 2, 7, 16, 30, 300, 5000, ALL]
        moves = [self.read_host, self.read_guest, self.host_reads, self.guest_reads]
        self.random.choice(moves)(self.random.choice(sizes))

    def all_bytes_move(self) -> None:
        for _ in range(2):
            self.host_reads()
            self.read_host()
            self.guest_reads()
            self.read_guest()

    def read_host(self, size: int = ALL) -> None:
        if self.reads_host and not self.host_ended and (chunk := take(self.host.outbox, size)):
            self.feed(HostBytes(memoryview(chunk)))

    def read_guest(self, size: int = ALL) -> None:
        if self.guest and self.reads_guest and (chunk := take(self.guest.outbox, size)):
            self.feed(GuestBytes(memoryview(chunk)))

    def host_reads(self, size: int = ALL) -> None:
        self.host.receive(take(self.to_host, size))

    def guest_reads(self, size: int = ALL) -> None:
        if self.guest:
            self.guest.receive(take(self.to_guest, size))

    # -- the owner --------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Have the machine handle an event, and carry out what it wants."""
        for effect in self.machine.handle(event):
            match effect:
                case SendToGuest(data=data):
                    assert self.guest is not None
                    self.sent += len(data)
                    self.to_guest += data
                case SendToHost(data=data):
                    assert not self.host_ended
                    self.to_host += data
                    spans = self.to_host_check.feed(data)
                    self.count_resets(spans)
                case ReadHost(enabled=enabled):
                    assert self.reads_host is not enabled
                    self.reads_host = enabled
                case ReadGuest(enabled=enabled):
                    assert self.reads_guest is not enabled
                    self.reads_guest = enabled
                case DeviceAttached():
                    assert self.settled_told
                    self.attached = True
                case DeviceGone():
                    assert self.attached
                case DeviceDetached():
                    assert self.detaching
                    self.detaching = False
                case DeviceRejected():
                    assert self.guest is not None
                    assert self.guest.rejected
                case Settled():
                    assert not self.settled_told
                    self.settled_told = True
                case CloseLink() if self.host_ended:
                    self.close_wanted = True
                case _:
                    raise AssertionError(f"nobody did wrong: {effect}")
        self.settled_told = self.settled_told and self.machine.settled
        assert self.settled_told is self.machine.settled
        assert self.sent == self.machine.sent
        assert self.resets == self.machine.resets_forwarded
        assert self.to_host_check.boundary == self.to_host_check.offset, "not whole packets"
        if self.machine.state is not State.LIVE:
            assert self.reads_host
        if self.guest and self.machine.state not in (State.LIVE, State.LOST):
            assert self.reads_guest

    def count_resets(self, spans: list[Span]) -> None:
        """Count the resets that libusbredirhost does not leave out."""
        for span in spans:
            if span.type is PacketType.RESET:
                self.resets += self.used
                self.used = False
            elif span.body is None or span.type in USES:
                self.used = True

    def come_to_rest(self) -> None:
        """Let everything end that can end."""
        if self.guest is not None:
            self.end_link()
        for _ in range(3):
            self.all_bytes_move()

    def check_order(self) -> None:
        """Each guest's requests reached the usb-host in order, and none twice."""
        for guest in self.guests:
            serials = self.host.serials.get(guest.number, [])
            assert serials == guest.sent_serials[: len(serials)]


def take(pipe: bytearray, size: int) -> bytes:
    chunk = bytes(pipe[:size])
    del pipe[:size]
    return chunk


WORLDS: Final = st.builds(
    World,
    st.integers(0, 1 << 32).map(Random),
    st.sampled_from(CAPS),
    st.sampled_from(CAPS),
)


@settings(max_examples=100, deadline=None)
@given(world=WORLDS)
def test_guests_come_and_go_and_nothing_is_left(world: World) -> None:
    for _ in range(STEPS):
        world.step()
    world.check_order()
    world.come_to_rest()

    assert world.machine.settled
    assert world.machine.open_requests == 0
    assert not world.host.pending
    assert not world.host.running
    assert not world.host.stream_endpoints
    assert not world.host.alternate


@settings(max_examples=50, deadline=None)
@given(world=WORLDS)
def test_guest_gets_an_answer_to_everything_after_the_usb_host_has_ended(world: World) -> None:
    for _ in range(STEPS):
        world.step()
    if world.guest is None:
        world.open_link()
    assert world.guest is not None
    world.end_host()
    world.feed(GuestWritable(True))
    if world.guest.attached and not world.close_wanted:
        for packet_id in range(20, 40):
            world.guest.transfer(packet_id, packet_id)
    world.all_bytes_move()

    if world.guest.attached and not world.close_wanted:
        # Nobody waits for the status of bulk streams: see refusal.py.
        waiting = [asked for asked in world.guest.requests if not asked.is_about_bulk_streams]
        assert waiting == []
    world.detach()
    world.all_bytes_move()
    assert world.close_wanted or not world.guest.attached
    world.end_link()
    assert world.machine.open_requests == 0


def test_it_is_a_history_worth_the_name() -> None:
    """Guards the generator: a world in which nothing happens would prove nothing."""
    world = World(Random(3), ALL_CAPS, ALL_CAPS)

    for _ in range(3000):
        world.step()

    assert sum(guest.connects for guest in world.guests) > 20
    assert sum(guest.heard_answers for guest in world.guests) > 150
    assert sum(guest.heard_streams for guest in world.guests) > 30
    assert sum(guest.pokes for guest in world.guests) > 10
    assert world.splices > 10
