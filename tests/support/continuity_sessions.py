"""A continuity machine with two voices, for tests that talk to it in packets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.continuity.events import (
    Effect,
    Event,
    GuestBytes,
    HostBytes,
    LinkEnded,
    LinkOpened,
)
from kubectl_vmredir.continuity.machine import ContinuityMachine
from kubectl_vmredir.continuity.state import State
from kubectl_vmredir.model import Unknown
from kubectl_vmredir.protocol.constants import ALL_CAPS, Cap, Status, endpoint_index
from kubectl_vmredir.protocol.control import (
    ConfigurationStatus,
    GetConfiguration,
)
from kubectl_vmredir.protocol.data import BulkPacket
from kubectl_vmredir.protocol.description import Hello
from tests.support.model_host import CONNECT, INTERFACES, ep_info
from tests.support.wire import Numbered, wire

if TYPE_CHECKING:
    from collections.abc import Sequence


OK, IOERROR = Status.SUCCESS, Status.IOERROR
HOST_HELLO = Hello("host", ALL_CAPS)
GUEST_HELLO = Hello("guest", ALL_CAPS)
DESCRIPTION = (INTERFACES, ep_info(), CONNECT)
FENCE = wire(GetConfiguration())
FENCE_ANSWER = ConfigurationStatus(OK, 1)
READ = BulkPacket(0x81, OK, 512)
"""A request for 512 bytes."""
DATA = BulkPacket(0x81, OK, 512, 0, bytes(512))
"""Its answer."""
STREAM_ENDPOINTS = 1 << endpoint_index(0x02)
CANCELLED = BulkPacket(0x81, Status.CANCELLED, 0)


class Session:
    """A machine with two voices.

    Args:
        caps: What both sides can.
    """

    def __init__(self, caps: Cap = ALL_CAPS) -> None:
        self.machine = ContinuityMachine()
        self.caps = caps

    def handle(self, event: Event) -> Sequence[Effect]:
        return self.machine.handle(event)

    def host(self, *packets: Numbered) -> Sequence[Effect]:
        return self.handle(HostBytes(memoryview(self.wire(*packets))))

    def guest(self, *packets: Numbered) -> Sequence[Effect]:
        return self.handle(GuestBytes(memoryview(self.wire(*packets))))

    def wire(self, *packets: Numbered) -> bytes:
        return wire(*packets, caps=self.caps)

    @property
    def state(self) -> State:
        return self.machine.state


def greeted(caps: Cap = ALL_CAPS) -> Session:
    """Return a session whose first guest is live, and has no device yet."""
    session = Session(caps)
    session.host(Hello("host", caps))
    session.handle(LinkOpened())
    session.guest(Hello("guest", caps))
    return session


def live(caps: Cap = ALL_CAPS) -> Session:
    """Return a session whose first guest has the device."""
    session = greeted(caps)
    session.host(*DESCRIPTION)
    return session


def held(*left_open: Numbered) -> Session:
    """Return a session whose first guest has gone, after it has asked for these."""
    session = live()
    session.guest(*left_open)
    session.handle(LinkEnded(Unknown()))
    return session


def settling(*left_open: Numbered) -> Session:
    """Return a session whose second guest waits for what the first one has left."""
    session = held(*left_open)
    session.handle(LinkOpened())
    session.guest(GUEST_HELLO)
    return session
