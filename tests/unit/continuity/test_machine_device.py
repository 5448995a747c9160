from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubectl_vmredir.continuity.events import (
    CloseLink,
    DetachRequested,
    DeviceAttached,
    DeviceDetached,
    DeviceGone,
    DeviceRejected,
    HostBytes,
    HostEnded,
    LinkEnded,
    LinkOpened,
    RestartSession,
    SendToGuest,
    SendToHost,
    Settled,
)
from kubectl_vmredir.continuity.state import State
from kubectl_vmredir.model import Unknown
from kubectl_vmredir.protocol.constants import ALL_CAPS, Cap
from kubectl_vmredir.protocol.control import (
    CancelDataPacket,
    ConfigurationStatus,
    DeviceDisconnect,
    DeviceDisconnectAck,
    FilterReject,
    GetConfiguration,
    SetConfiguration,
    StopInterruptReceiving,
)
from kubectl_vmredir.protocol.data import BulkPacket, IsoPacket
from tests.support.continuity_sessions import (
    CANCELLED,
    DATA,
    DESCRIPTION,
    FENCE_ANSWER,
    GUEST_HELLO,
    HOST_HELLO,
    IOERROR,
    OK,
    READ,
    Session,
    greeted,
    held,
    live,
    settling,
)
from tests.support.wire import wire

if TYPE_CHECKING:
    from collections.abc import Callable

# -- the device goes ------------------------------------------------------------------------


def test_a_lost_device_is_not_unplugged_from_the_guest_by_itself() -> None:
    session = live()
    session.guest((6, READ), (7, READ), (8, GetConfiguration()))

    effects = session.host((6, DATA), DeviceDisconnect())

    assert effects == [
        SendToHost(wire(DeviceDisconnectAck())),
        SendToGuest(wire((6, DATA))),
        SendToGuest(wire((7, BulkPacket(0x81, IOERROR, 0)))),
        SendToGuest(wire((8, ConfigurationStatus(IOERROR, 0)))),
        SendToHost(wire((7, CancelDataPacket()), GetConfiguration())),
        DeviceGone(),
    ]
    assert session.state is State.LOST
    assert session.machine.attached


def test_requests_for_a_lost_device_end_with_ioerror() -> None:
    session = live()
    session.guest((9, SetConfiguration(2)))
    session.host((9, ConfigurationStatus(OK, 2)))
    session.host(DeviceDisconnect())

    effects = session.guest(
        (7, READ), (8, SetConfiguration(1)), StopInterruptReceiving(0x83), IsoPacket(6, OK, 0)
    )

    assert effects == [
        SendToGuest(wire((7, BulkPacket(0x81, IOERROR, 0)))),
        SendToGuest(wire((8, ConfigurationStatus(IOERROR, 2)))),
    ]
    assert session.host(FENCE_ANSWER) == [Settled()]


def test_a_lost_device_is_unplugged_when_the_owner_says_so() -> None:
    session = live()
    session.host(DeviceDisconnect())

    assert session.handle(DetachRequested()) == [SendToGuest(wire(DeviceDisconnect()))]
    assert session.guest(DeviceDisconnectAck()) == [DeviceDetached()]


def test_a_lost_device_that_comes_back_is_for_the_next_guest() -> None:
    session = live()
    session.host(DeviceDisconnect(), FENCE_ANSWER)
    assert session.host(*DESCRIPTION) == []
    session.handle(LinkEnded(Unknown()))
    session.handle(LinkOpened())

    assert DeviceAttached() in session.guest(GUEST_HELLO)


def test_a_device_that_goes_while_no_guest_has_it_is_acknowledged() -> None:
    session = held()
    session.host(FENCE_ANSWER)

    assert session.host(DeviceDisconnect()) == [SendToHost(wire(DeviceDisconnectAck()))]
    session.handle(LinkOpened())
    assert session.guest(GUEST_HELLO) == [SendToGuest(wire(HOST_HELLO))]
    assert not session.machine.attached
    assert session.host(*DESCRIPTION) == [SendToGuest(wire(*DESCRIPTION)), DeviceAttached()]


def test_a_device_that_goes_before_the_guest_has_it_is_acknowledged() -> None:
    session = greeted()

    assert session.host(DeviceDisconnect()) == [SendToHost(wire(DeviceDisconnectAck()))]
    assert session.state is State.LIVE


def test_no_ack_is_sent_to_a_usb_host_that_knows_none() -> None:
    session = live(ALL_CAPS & ~Cap.DEVICE_DISCONNECT_ACK)

    assert session.host(DeviceDisconnect()) == [
        SendToHost(session.wire(GetConfiguration())),
        DeviceGone(),
    ]


def test_a_usb_host_that_ends_leaves_the_guest_with_errors() -> None:
    session = live()
    session.guest((7, READ))

    effects = session.handle(HostEnded())

    assert effects == [SendToGuest(wire((7, BulkPacket(0x81, IOERROR, 0)))), DeviceGone()]
    assert session.guest((8, READ)) == [SendToGuest(wire((8, BulkPacket(0x81, IOERROR, 0))))]
    assert session.handle(DetachRequested()) == [SendToGuest(wire(DeviceDisconnect()))]


def test_a_usb_host_that_ends_within_a_packet_costs_the_link() -> None:
    session = live()
    session.guest((7, READ))
    session.handle(HostBytes(memoryview(wire((7, DATA))[:100])))

    effects = session.handle(HostEnded())

    assert effects == [CloseLink("the usb-host ended within a packet")]
    assert session.handle(DetachRequested()) == [DeviceDetached()]


def test_a_usb_host_may_end_before_it_has_said_anything() -> None:
    session = Session()

    assert session.handle(HostEnded()) == []


def test_a_usb_host_that_ends_settles_the_session() -> None:
    session = held((7, READ))

    assert session.handle(HostEnded()) == [Settled()]
    assert session.machine.open_requests == 0


def test_a_guest_that_waits_for_a_device_waits_in_vain_when_the_usb_host_ends() -> None:
    session = settling((7, READ))

    assert session.handle(HostEnded()) == [Settled()]
    assert session.state is State.DETACHED


def test_a_guest_without_a_device_is_told_nothing_when_the_usb_host_ends() -> None:
    session = greeted()

    assert session.handle(HostEnded()) == []
    assert session.state is State.DETACHED
    assert session.handle(LinkEnded(Unknown())) == []


# -- the owner takes the device -------------------------------------------------------------


def test_the_device_is_taken_as_libusbredirhost_takes_it() -> None:
    session = live()
    session.guest((7, READ))

    effects = session.handle(DetachRequested())

    assert effects == [
        SendToHost(wire((7, CancelDataPacket()), GetConfiguration())),
        SendToGuest(wire(DeviceDisconnect())),
    ]
    assert session.state is State.DETACHED
    assert not session.machine.attached
    assert session.guest((8, READ), DeviceDisconnectAck()) == [DeviceDetached()]
    assert session.host((7, CANCELLED), FENCE_ANSWER) == [Settled()]
    assert session.handle(DetachRequested()) == [DeviceDetached()]
    assert session.handle(LinkEnded(Unknown())) == []


def test_a_guest_that_cannot_acknowledge_is_taken_at_its_word() -> None:
    session = live(ALL_CAPS & ~Cap.DEVICE_DISCONNECT_ACK)

    effects = session.handle(DetachRequested())

    assert effects == [
        SendToHost(session.wire(GetConfiguration())),
        SendToGuest(session.wire(DeviceDisconnect())),
        DeviceDetached(),
    ]


def test_the_device_is_taken_between_two_packets() -> None:
    session = live()
    session.guest((7, READ), (8, READ))
    answer = wire((7, DATA), (8, DATA))
    session.handle(HostBytes(memoryview(answer[:100])))

    assert session.handle(DetachRequested()) == [
        SendToHost(wire((8, CancelDataPacket()), GetConfiguration()))
    ]
    assert session.handle(HostBytes(memoryview(answer[100:200]))) == [SendToGuest(answer[100:200])]
    assert session.handle(HostBytes(memoryview(answer[200:]))) == [
        SendToGuest(answer[200 : len(wire((7, DATA)))]),
        SendToGuest(wire(DeviceDisconnect())),
    ]


def test_an_ack_that_comes_before_the_disconnect_is_a_fault() -> None:
    session = live()
    session.guest((7, READ))
    session.handle(HostBytes(memoryview(wire((7, DATA))[:100])))
    session.handle(DetachRequested())

    (effect,) = session.guest(DeviceDisconnectAck())

    assert isinstance(effect, CloseLink)
    assert session.handle(LinkEnded(Unknown())) == [DeviceDetached()]


def test_a_guest_that_acknowledges_nothing_is_at_fault() -> None:
    session = live()

    assert session.guest(DeviceDisconnectAck()) == [
        RestartSession(
            "the guest's QEMU broke the protocol: device_disconnect_ack of no device_disconnect"
        )
    ]


def test_the_end_of_the_link_takes_the_device_too() -> None:
    session = live()
    session.handle(DetachRequested())
    assert session.handle(DetachRequested()) == []

    assert session.handle(LinkEnded(Unknown())) == [DeviceDetached()]


def test_a_usb_host_that_ends_before_the_device_is_taken_costs_the_link() -> None:
    session = live()
    session.guest((7, READ))
    session.handle(HostBytes(memoryview(wire((7, DATA))[:100])))
    session.handle(DetachRequested())

    assert session.handle(HostEnded()) == [
        CloseLink("the usb-host ended within a packet"),
        Settled(),
    ]
    assert session.handle(LinkEnded(Unknown())) == [DeviceDetached()]


@pytest.mark.parametrize("make", [Session, greeted, settling, held])
def test_where_there_is_nothing_to_take_it_is_said_at_once(make: Callable[[], Session]) -> None:
    session = make()

    assert session.handle(DetachRequested())[-1] == DeviceDetached()


def test_a_guest_whose_device_was_taken_early_never_gets_it() -> None:
    session = settling((7, READ))
    session.handle(DetachRequested())

    assert session.host((7, CANCELLED), FENCE_ANSWER) == [Settled()]
    assert session.state is State.DETACHED


def test_a_guest_may_not_want_the_device() -> None:
    session = live()
    session.guest((7, READ))

    effects = session.guest(FilterReject())

    assert effects == [
        SendToHost(wire((7, CancelDataPacket()), GetConfiguration())),
        DeviceRejected(),
    ]
    assert session.state is State.DETACHED
    assert not session.machine.attached
    assert session.guest(FilterReject()) == []
    assert session.handle(DetachRequested()) == [DeviceDetached()]


def test_what_a_guest_asks_before_it_rejects_the_device_is_undone_after_it_is_done() -> None:
    session = live()

    effects = session.guest((7, READ), FilterReject())

    assert effects == [
        SendToHost(wire((7, READ))),
        SendToHost(wire((7, CancelDataPacket()), GetConfiguration())),
        DeviceRejected(),
    ]


def test_a_guest_may_not_want_a_lost_device() -> None:
    session = live()
    session.host(DeviceDisconnect())

    assert session.guest(FilterReject()) == [DeviceRejected()]
