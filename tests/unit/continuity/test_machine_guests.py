from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.continuity.events import (
    CloseLink,
    DeviceAttached,
    GuestBytes,
    HostBytes,
    LinkEnded,
    LinkOpened,
    RestartSession,
    SendToGuest,
    SendToHost,
    Settled,
)
from kubectl_vmredir.continuity.state import State
from kubectl_vmredir.model import Exact, Unknown
from kubectl_vmredir.protocol.constants import ALL_CAPS, Cap, Status
from kubectl_vmredir.protocol.control import (
    AllocBulkStreams,
    AltSettingStatus,
    BulkStreamsStatus,
    CancelDataPacket,
    FreeBulkStreams,
    GetConfiguration,
    InterruptReceivingStatus,
    Reset,
    SetAltSetting,
    StartInterruptReceiving,
    StopInterruptReceiving,
)
from kubectl_vmredir.protocol.data import BulkPacket, InterruptPacket
from kubectl_vmredir.protocol.description import FilterFilter, Hello
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
    STREAM_ENDPOINTS,
    Session,
    greeted,
    held,
    live,
    settling,
)
from tests.support.model_host import CONNECT, INTERFACES, ep_info
from tests.support.wire import wire

if TYPE_CHECKING:
    pass

# -- greeting -------------------------------------------------------------------------------


def test_nothing_is_said_before_the_guest_s_own_hello() -> None:
    session = Session()

    assert session.host(HOST_HELLO) == []
    assert session.handle(LinkOpened()) == []
    assert session.state is State.GREETING


def test_hellos_of_the_first_guest_and_the_usb_host_are_exchanged() -> None:
    session = Session()
    session.host(HOST_HELLO)
    session.handle(LinkOpened())

    effects = session.guest(GUEST_HELLO)

    assert effects == [SendToGuest(wire(HOST_HELLO)), SendToHost(wire(GUEST_HELLO))]
    assert session.state is State.LIVE


def test_the_usb_host_s_hello_may_come_last() -> None:
    session = Session()
    session.handle(LinkOpened())
    assert session.guest(GUEST_HELLO) == []

    effects = session.host(HOST_HELLO)

    assert effects == [SendToGuest(wire(HOST_HELLO)), SendToHost(wire(GUEST_HELLO))]
    assert session.state is State.LIVE
    session.host(*DESCRIPTION)
    assert session.guest((7, READ)) == [SendToHost(wire((7, READ)))]


def test_a_hello_of_a_guest_that_has_gone_is_not_answered() -> None:
    session = Session()
    session.handle(LinkOpened())
    session.guest(GUEST_HELLO)
    session.handle(LinkEnded(Unknown()))

    assert session.host(HOST_HELLO) == []


def test_a_hello_of_a_former_guest_is_not_taken_for_that_of_the_next() -> None:
    session = Session()
    session.handle(LinkOpened())
    session.guest(GUEST_HELLO)
    session.handle(LinkEnded(Unknown()))
    session.handle(LinkOpened())

    assert session.host(HOST_HELLO) == []


def test_capabilities_from_the_future_are_taken_out_of_both_hellos() -> None:
    future = b"\xff\xff\xff\xff"
    session = Session()
    session.handle(HostBytes(memoryview(wire(HOST_HELLO)[:-4] + future)))
    session.handle(LinkOpened())

    effects = session.handle(GuestBytes(memoryview(wire(GUEST_HELLO)[:-4] + future)))

    assert effects == [SendToGuest(wire(HOST_HELLO)), SendToHost(wire(GUEST_HELLO))]


def test_the_first_guest_gets_the_description_as_the_usb_host_sends_it() -> None:
    session = greeted()

    effects = session.host(*DESCRIPTION)

    assert effects == [SendToGuest(wire(*DESCRIPTION)), DeviceAttached()]
    assert session.machine.attached


def test_a_later_guest_is_answered_from_the_cache() -> None:
    session = held()
    session.host(FENCE_ANSWER)
    session.handle(LinkOpened())

    effects = session.guest(GUEST_HELLO)

    assert effects == [
        SendToGuest(wire(HOST_HELLO)),
        SendToGuest(wire(*DESCRIPTION)),
        DeviceAttached(),
    ]
    assert session.state is State.LIVE


def test_a_later_guest_gets_the_latest_description() -> None:
    session = live()
    session.guest((3, SetAltSetting(1, 1)))
    session.host(INTERFACES, ep_info(alternate=True), (3, AltSettingStatus(OK, 1, 1)))
    session.handle(LinkEnded(Unknown()))
    session.host(INTERFACES, ep_info(), AltSettingStatus(OK, 1, 0), FENCE_ANSWER)
    session.handle(LinkOpened())

    effects = session.guest(GUEST_HELLO)

    assert SendToGuest(wire(INTERFACES, ep_info(), CONNECT)) in effects


def test_a_guest_with_other_capabilities_restarts_the_session() -> None:
    session = held()
    session.host(FENCE_ANSWER)
    session.handle(LinkOpened())

    effects = session.guest(Hello("guest", ALL_CAPS & ~Cap.BULK_STREAMS))

    reason = "this QEMU has other usbredir capabilities (0xfe) than the first one (0xff)"
    assert effects == [RestartSession(reason)]
    assert session.state is State.BROKEN


def test_a_guest_that_is_no_usbredir_loses_its_link_and_no_more() -> None:
    session = Session()
    session.host(HOST_HELLO)
    session.handle(LinkOpened())

    (effect,) = session.handle(GuestBytes(memoryview(b"HTTP/1.1 400 Bad Request\r\n")))

    assert isinstance(effect, CloseLink)
    assert session.state is State.CUT


def test_a_cut_link_is_followed_by_another() -> None:
    session = Session()
    session.host(HOST_HELLO)
    session.handle(LinkOpened())
    session.handle(GuestBytes(memoryview(b"HTTP/1.1 400 Bad Request\r\n")))
    session.handle(LinkEnded(Unknown()))
    session.handle(LinkOpened())

    session.guest(GUEST_HELLO)

    assert session.state is State.LIVE


# -- a link ends ----------------------------------------------------------------------------


@pytest.mark.parametrize("boundary", [Unknown(), Exact(0)])
def test_what_the_guest_has_left_is_undone(boundary: Exact | Unknown) -> None:
    session = live()
    session.guest(
        (7, READ),
        (8, BulkPacket(0x02, OK, 1, 0, b"x")),
        StartInterruptReceiving(0x83),
        (9, AllocBulkStreams(STREAM_ENDPOINTS, 4)),
    )
    session.host((9, BulkStreamsStatus(STREAM_ENDPOINTS, 4, OK)))

    effects = session.handle(LinkEnded(boundary))

    assert effects == [
        SendToHost(
            wire(
                (7, CancelDataPacket()),
                (8, CancelDataPacket()),
                StopInterruptReceiving(0x83),
                FreeBulkStreams(STREAM_ENDPOINTS),
                GetConfiguration(),
            )
        )
    ]
    assert session.state is State.HOLDING
    assert not session.machine.attached
    assert not session.machine.settled


def test_late_answers_reach_nobody_and_settle_the_session() -> None:
    session = held((7, READ), StartInterruptReceiving(0x83))

    effects = session.host(
        InterruptReceivingStatus(OK, 0x83),
        InterruptPacket(0x83, OK, 1, b"x"),
        (7, CANCELLED),
        InterruptReceivingStatus(OK, 0x83),
        FENCE_ANSWER,
    )

    assert effects == [Settled()]
    assert session.machine.settled
    assert session.machine.open_requests == 0


def test_the_rest_of_a_half_sent_packet_is_dropped() -> None:
    session = live()
    session.guest((7, READ))
    answer = wire((7, DATA))
    session.handle(HostBytes(memoryview(answer[:100])))
    session.handle(LinkEnded(Unknown()))
    session.handle(LinkOpened())
    session.guest(GUEST_HELLO)

    effects = session.handle(HostBytes(memoryview(answer[100:] + wire(FENCE_ANSWER))))

    assert effects == [Settled(), SendToGuest(wire(*DESCRIPTION)), DeviceAttached()]


def test_the_start_of_a_guest_s_packet_is_forgotten() -> None:
    session = live()
    write = wire((7, BulkPacket(0x02, OK, 512, 0, bytes(512))))
    session.handle(GuestBytes(memoryview(write[:100])))

    assert session.handle(LinkEnded(Unknown())) == [SendToHost(FENCE)]
    session.host(FENCE_ANSWER)
    session.handle(LinkOpened())
    session.guest(GUEST_HELLO)
    assert session.guest((7, READ)) == [SendToHost(wire((7, READ)))]


def test_a_packet_that_begins_before_the_next_guest_and_ends_after_is_its_own() -> None:
    session = held()
    session.host(FENCE_ANSWER)
    status = wire(InterruptReceivingStatus(Status.STALL, 0x83))
    session.handle(HostBytes(memoryview(status[:5])))
    session.handle(LinkOpened())
    session.guest(GUEST_HELLO)

    assert session.handle(HostBytes(memoryview(status[5:]))) == [
        SendToGuest(status[:5]),
        SendToGuest(status[5:]),
    ]


def test_the_next_guest_waits_until_nothing_is_left() -> None:
    session = settling((7, READ))
    assert session.state is State.SETTLING
    assert session.host((7, CANCELLED)) == []

    effects = session.host(FENCE_ANSWER, InterruptReceivingStatus(Status.STALL, 0x83))

    assert effects == [
        Settled(),
        SendToGuest(wire(*DESCRIPTION)),
        DeviceAttached(),
        SendToGuest(wire(InterruptReceivingStatus(Status.STALL, 0x83))),
    ]


def test_a_guest_may_come_and_go_while_the_session_settles() -> None:
    session = settling((7, READ))

    assert session.handle(LinkEnded(Unknown())) == []
    assert not session.machine.settled
    assert session.host((7, CANCELLED), FENCE_ANSWER) == [Settled()]


def test_a_guest_that_cleans_up_after_a_lost_device_is_not_heard() -> None:
    session = settling()

    effects = session.guest(
        Reset(),
        (7, CancelDataPacket()),
        StopInterruptReceiving(0x83),
        FilterFilter(parse_rules("-1,-1,-1,-1,1")),
    )

    assert effects == []
    assert session.state is State.SETTLING


def test_a_guest_that_asks_before_it_has_a_device_loses_its_link() -> None:
    session = settling()

    effects = session.guest((7, READ))

    assert effects == [
        CloseLink("the guest's QEMU broke the protocol: bulk_packet before device_connect")
    ]
    assert session.guest((8, READ)) == []
    session.handle(LinkEnded(Unknown()))
    assert session.host(FENCE_ANSWER) == [Settled()]
