from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.continuity.events import (
    DetachRequested,
    DeviceDetached,
    Event,
    GuestBytes,
    GuestWritable,
    HostBytes,
    HostEnded,
    HostWritable,
    LinkEnded,
    LinkOpened,
    ReadGuest,
    ReadHost,
    RestartSession,
    SendToGuest,
    SendToHost,
)
from kubectl_vmredir.continuity.ledger import MAX_OPEN
from kubectl_vmredir.continuity.state import State
from kubectl_vmredir.errors import LocalProtocolError
from kubectl_vmredir.model import Exact, Unknown
from kubectl_vmredir.protocol.constants import Status
from kubectl_vmredir.protocol.control import (
    AltSettingStatus,
    CancelDataPacket,
    ConfigurationStatus,
    GetAltSetting,
    GetConfiguration,
    InterruptReceivingStatus,
    Reset,
    SetAltSetting,
    SetConfiguration,
    StartInterruptReceiving,
)
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket, InterruptPacket, IsoPacket
from kubectl_vmredir.protocol.description import FilterFilter
from kubectl_vmredir.protocol.filter import parse_rules
from tests.support.continuity_sessions import (
    CANCELLED,
    DATA,
    DESCRIPTION,
    FENCE,
    FENCE_ANSWER,
    GUEST_HELLO,
    HOST_HELLO,
    OK,
    READ,
    Session,
    held,
    live,
)
from tests.support.model_host import CONNECT, INTERFACES, ep_info
from tests.support.wire import wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.protocol.packets import Packet

# -- live -----------------------------------------------------------------------------------


def test_a_chunk_passes_as_the_view_it_was_both_ways() -> None:
    session = live()
    request, answer = memoryview(wire((7, READ))), memoryview(wire((7, DATA)))

    (to_host,) = session.handle(GuestBytes(request))
    (to_guest,) = session.handle(HostBytes(answer))

    assert isinstance(to_host, SendToHost)
    assert to_host.data is request
    assert isinstance(to_guest, SendToGuest)
    assert to_guest.data is answer
    assert session.machine.open_requests == 0


def test_the_short_ways_say_whether_all_passes_and_what_else_there_is_to_do() -> None:
    machine = live().machine
    request, answer = memoryview(wire((7, READ))), memoryview(wire((7, DATA)))

    assert machine.guest_bytes(request) is None
    assert machine.host_bytes(answer) is None
    assert machine.host_bytes(answer) == []  # nobody has asked
    assert machine.guest_bytes(request[:10]) == []
    assert machine.guest_bytes(request[10:]) == [SendToHost(request[:10]), SendToHost(request[10:])]
    assert machine.sent == len(wire(HOST_HELLO, *DESCRIPTION)) + len(answer)


def test_the_short_ways_are_closed_where_the_long_ones_are() -> None:
    session = Session()
    hello = memoryview(wire(HOST_HELLO))

    with pytest.raises(LocalProtocolError, match="guest without a link"):
        session.machine.guest_bytes(hello)
    session.handle(HostEnded())
    with pytest.raises(LocalProtocolError, match="usb-host that has ended"):
        session.machine.host_bytes(hello)


def test_the_usb_host_gets_whole_packets_only() -> None:
    session = live()
    write = wire((7, BulkPacket(0x02, OK, 512, 0, bytes(512))))

    assert session.handle(GuestBytes(memoryview(write[:10]))) == []
    assert session.handle(GuestBytes(memoryview(write[10:100]))) == []
    assert session.machine.open_requests == 0
    effects = session.handle(GuestBytes(memoryview(write[100:] + write[:5])))

    assert effects == [SendToHost(write[:100]), SendToHost(write[100:])]
    assert session.machine.open_requests == 1
    assert session.handle(GuestBytes(memoryview(write[5:]))) == [
        SendToHost(write[:5]),
        SendToHost(write[5:]),
    ]


def test_payload_of_the_usb_host_passes_as_it_comes() -> None:
    session = live()
    session.guest((7, READ))
    answer = wire((7, DATA))

    assert session.handle(HostBytes(memoryview(answer[:20]))) == []
    assert session.handle(HostBytes(memoryview(answer[20:40]))) == [
        SendToGuest(answer[:20]),
        SendToGuest(answer[20:40]),
    ]
    assert session.handle(HostBytes(memoryview(answer[40:]))) == [SendToGuest(answer[40:])]


def test_an_answer_to_nothing_is_taken_out() -> None:
    session = live()
    session.guest((7, READ), (9, READ))

    effects = session.host((7, DATA), (8, CANCELLED), (9, DATA))

    assert effects == [SendToGuest(wire((7, DATA))), SendToGuest(wire((9, DATA)))]


def test_a_second_answer_is_taken_out() -> None:
    session = live()
    session.guest((7, SetConfiguration(1)))

    effects = session.host((7, FENCE_ANSWER), (7, FENCE_ANSWER))

    assert effects == [SendToGuest(wire((7, FENCE_ANSWER)))]


def test_streams_and_their_statuses_pass() -> None:
    session = live()
    session.guest(StartInterruptReceiving(0x83))
    stream = (
        InterruptReceivingStatus(OK, 0x83),
        InterruptPacket(0x83, OK, 1, b"x"),
        InterruptReceivingStatus(Status.STALL, 0x83),
    )

    assert session.host(*stream) == [SendToGuest(wire(*stream))]


def test_an_iso_output_waits_for_no_answer() -> None:
    session = live()
    session.guest((3, SetAltSetting(1, 1)))
    session.host(INTERFACES, ep_info(alternate=True), (3, AltSettingStatus(OK, 1, 1)))
    packet = IsoPacket(0x06, OK, 1, b"x")

    assert session.guest(packet) == [SendToHost(wire(packet))]
    assert session.machine.open_requests == 0


def test_a_cancelled_request_may_be_answered_out_of_turn() -> None:
    session = live()
    session.guest((1, READ), (2, READ), (2, CancelDataPacket()))

    assert session.host((2, CANCELLED)) == [SendToGuest(wire((2, CANCELLED)))]


def test_a_cancel_of_an_unknown_id_passes() -> None:
    session = live()

    assert session.guest((99, CancelDataPacket())) == [SendToHost(wire((99, CancelDataPacket())))]


def test_a_reset_with_requests_open_leaves_them_open() -> None:
    session = live()

    session.guest((1, READ), Reset())
    assert session.machine.open_requests == 1
    assert session.host((1, CANCELLED)) == [SendToGuest(wire((1, CANCELLED)))]


@pytest.mark.parametrize(
    "use",
    [READ, SetConfiguration(1), SetAltSetting(0, 1), StartInterruptReceiving(0x83)],
    ids=lambda packet: packet.type.label,
)
def test_reset_of_a_device_that_was_used_is_counted_if_the_usb_host_is_given_it(
    use: Packet,
) -> None:
    session = live()

    assert SendToHost(wire(use, Reset(), Reset())) in session.guest(use, Reset(), Reset())
    assert session.machine.resets_forwarded == 1

    (broken,) = session.guest(use, Reset(), AltSettingStatus(OK, 0, 0))
    assert isinstance(broken, RestartSession)
    assert session.machine.resets_forwarded == 1


def test_reset_of_a_device_that_was_only_asked_is_not_counted() -> None:
    session = live()

    session.guest(Reset(), GetConfiguration(), GetAltSetting(0), Reset())

    assert session.machine.resets_forwarded == 0


def test_a_reset_without_a_device_is_not_counted() -> None:
    session = live()
    session.handle(DetachRequested())

    assert session.guest(Reset()) == []
    assert session.machine.resets_forwarded == 0


def test_a_change_of_configuration_with_requests_open_leaves_them_open() -> None:
    session = live()
    session.guest((1, READ), (2, SetConfiguration(2)))

    effects = session.host(INTERFACES, ep_info(), (2, ConfigurationStatus(OK, 2)), (1, CANCELLED))

    assert effects == [
        SendToGuest(wire(INTERFACES, ep_info(), (2, ConfigurationStatus(OK, 2)), (1, CANCELLED)))
    ]
    assert session.machine.open_requests == 0


def test_a_device_that_is_connected_already_is_not_connected_again() -> None:
    session = live()

    assert session.host(CONNECT) == []


def test_a_guest_out_of_bounds_restarts_the_session() -> None:
    session = live()

    effects = session.guest(*[(number, READ) for number in range(MAX_OPEN + 1)])

    assert effects == [
        RestartSession("the guest's QEMU broke the protocol: more than 1024 requests in flight")
    ]


def test_a_guest_that_breaks_the_protocol_restarts_the_session() -> None:
    session = live()

    (effect,) = session.guest((1, READ), (2, BulkPacket(0x8C, OK, 512)))

    assert isinstance(effect, RestartSession)
    assert "bulk_packet for endpoint 0x8c" in effect.reason


def test_a_usb_host_that_breaks_the_protocol_restarts_the_session() -> None:
    session = live()
    session.guest((1, READ), (2, READ))

    effects = session.host((2, DATA))

    assert effects == [
        RestartSession(
            "the usb-host broke the protocol: bulk_packet of endpoint 0x81 answered out of turn"
        )
    ]


# -- who is read ----------------------------------------------------------------------------


def test_a_stalled_link_stops_the_usb_host() -> None:
    session = live()

    assert session.handle(GuestWritable(False)) == [ReadHost(False)]
    assert session.handle(GuestWritable(False)) == []
    assert session.handle(GuestWritable(True)) == [ReadHost(True)]


def test_a_stalled_usb_host_stops_the_link() -> None:
    session = live()

    assert session.handle(HostWritable(False)) == [ReadGuest(False)]
    assert session.handle(HostWritable(True)) == [ReadGuest(True)]


def test_the_usb_host_is_read_again_when_a_stalled_link_ends() -> None:
    session = live()
    session.handle(GuestWritable(False))

    assert ReadHost(True) in session.handle(LinkEnded(Unknown()))


def test_a_link_to_a_stalled_usb_host_is_read_until_packets_would_pass() -> None:
    session = held()
    session.host(FENCE_ANSWER)
    session.handle(HostWritable(False))
    session.handle(LinkOpened())

    assert session.guest(GUEST_HELLO)[1] == ReadGuest(False)
    assert session.handle(LinkEnded(Unknown())) == [SendToHost(FENCE)]


def test_a_guest_that_does_not_read_its_errors_is_not_read() -> None:
    session = live()
    session.handle(GuestWritable(False))

    assert session.handle(HostEnded())[-2:] == [ReadHost(True), ReadGuest(False)]


# -- broken, and impossible -----------------------------------------------------------------


def test_a_broken_session_swallows_everything() -> None:
    session = live()
    session.guest((1, BulkPacket(0x8C, OK, 512)))

    assert session.guest((1, READ)) == []
    assert session.host((1, DATA)) == []
    assert session.handle(HostEnded()) == []
    assert session.handle(DetachRequested()) == [DeviceDetached()]
    assert session.handle(LinkEnded(Unknown())) == []
    assert session.state is State.BROKEN


def test_a_session_that_breaks_while_the_device_is_taken_says_when_it_is() -> None:
    session = live()
    session.handle(DetachRequested())
    session.host(FilterFilter(parse_rules("-1,-1,-1,-1,1")))
    assert session.state is State.BROKEN

    assert session.handle(LinkEnded(Unknown())) == [DeviceDetached()]


def test_bytes_on_a_link_are_counted_from_its_start() -> None:
    session = live()
    assert session.machine.sent == len(wire(HOST_HELLO, *DESCRIPTION))

    session.handle(LinkEnded(Exact(session.machine.sent)))
    session.handle(LinkOpened())

    assert session.machine.sent == 0


IMPOSSIBLE = [
    pytest.param(Session, GuestBytes(memoryview(b"x")), id="bytes-without-a-link"),
    pytest.param(Session, LinkEnded(Unknown()), id="end-without-a-link"),
    pytest.param(Session, GuestWritable(True), id="writable-without-a-link"),
    pytest.param(live, LinkOpened(), id="second-link"),
    pytest.param(live, LinkEnded(Exact(1 << 20)), id="boundary-ahead"),
]


@pytest.mark.parametrize(("make", "event"), IMPOSSIBLE)
def test_an_impossible_event_raises_and_changes_nothing(
    make: Callable[[], Session], event: Event
) -> None:
    session = make()
    state = session.state

    with pytest.raises(LocalProtocolError):
        session.handle(event)
    assert session.state is state


@pytest.mark.parametrize("event", [HostEnded(), HostBytes(memoryview(b"x")), LinkOpened()])
def test_a_usb_host_that_has_ended_says_no_more(event: Event) -> None:
    session = held()
    session.handle(HostEnded())

    with pytest.raises(LocalProtocolError, match="in state HOLDING"):
        session.handle(event)


def test_requests_of_control_and_configuration_are_told_apart() -> None:
    session = live()
    control = ControlPacket(0x80, 6, 0x80, OK, 0x100, 0, 18)
    session.guest((7, control), (7, GetConfiguration()))

    assert session.host((7, ConfigurationStatus(OK, 1))) == [
        SendToGuest(wire((7, ConfigurationStatus(OK, 1))))
    ]
    assert session.machine.open_requests == 1
