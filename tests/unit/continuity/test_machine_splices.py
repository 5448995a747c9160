"""A guest that goes on in another QEMU, in mid-stream."""

from __future__ import annotations

import pytest

from kubectl_vmredir.continuity.events import (
    Consumed,
    DetachRequested,
    Event,
    GuestBytes,
    GuestWritable,
    HostBytes,
    HostWritable,
    LinkEnded,
    LinkOpened,
    LinkSpliced,
    PokeWanted,
    ReadGuest,
    ReadHost,
    SendToGuest,
    SendToHost,
)
from kubectl_vmredir.continuity.outgoing import KEPT_BYTES
from kubectl_vmredir.continuity.state import State
from kubectl_vmredir.errors import LocalProtocolError
from kubectl_vmredir.model import Exact, Unknown
from kubectl_vmredir.protocol.constants import ALL_CAPS, Cap
from kubectl_vmredir.protocol.control import DeviceDisconnect
from tests.support.continuity_sessions import (
    DATA,
    DESCRIPTION,
    GUEST_HELLO,
    HOST_HELLO,
    READ,
    Session,
)
from tests.support.wire import wire

POKE = bytes.fromhex("11000000 02000000 0000000000000000 0080")
"""As reference captures have it, with ids of 64 bits."""


def counted(caps: Cap = ALL_CAPS) -> Session:
    """Return a session whose guest has the device, on a link that says what is read."""
    session = Session(caps)
    session.host(HOST_HELLO)
    session.handle(LinkOpened(counts=True))
    session.guest(GUEST_HELLO)
    session.host(*DESCRIPTION)
    session.handle(Consumed(session.machine.sent))
    return session


def guest_bytes(data: bytes) -> GuestBytes:
    return GuestBytes(memoryview(data))


def given(session: Session, event: Event) -> bytes:
    """Return what the guest is given because of an event."""
    effects = session.handle(event)
    return b"".join(bytes(effect.data) for effect in effects if isinstance(effect, SendToGuest))


@pytest.mark.parametrize("unread", [0, 1, 17, 600])
def test_the_new_qemu_gets_exactly_what_the_old_one_has_not_read(unread: int) -> None:
    session = counted()
    session.guest((1, READ), (2, READ))
    session.host((1, DATA), (2, DATA))
    answers = session.wire((1, DATA), (2, DATA))
    sent = session.machine.sent

    assert given(session, LinkSpliced(sent - unread)) == answers[len(answers) - unread :]
    assert session.machine.sent == unread


def test_nothing_is_undone_and_what_the_new_qemu_asks_goes_on() -> None:
    session = counted()
    session.guest((1, READ))

    effects = session.handle(LinkSpliced(session.machine.sent))

    assert effects == []
    assert session.state is State.LIVE
    assert session.host((1, DATA)) == [SendToGuest(session.wire((1, DATA)))]
    assert session.guest((2, READ)) == [SendToHost(session.wire((2, READ)))]


def test_a_packet_of_the_guest_that_is_cut_by_the_switch_is_one_packet() -> None:
    session = counted()
    request = session.wire((1, READ))
    session.handle(guest_bytes(request[:5]))
    session.handle(LinkSpliced(session.machine.sent))

    effects = session.handle(guest_bytes(request[5:]))

    assert b"".join(bytes(each.data) for each in effects if isinstance(each, SendToHost)) == request


def test_a_packet_of_the_device_that_is_cut_by_the_switch_is_one_packet() -> None:
    session = counted()
    session.guest((1, READ))
    answer = session.wire((1, DATA))
    session.handle(HostBytes(memoryview(answer[:100])))
    before = session.machine.sent

    again = given(session, LinkSpliced(before - 40))
    rest = given(session, HostBytes(memoryview(answer[100:])))

    assert again + rest == answer[60:]


def test_the_new_link_is_written_to_and_read_from_the_beginning() -> None:
    session = counted()
    session.handle(GuestWritable(False))
    session.handle(HostWritable(False))

    effects = session.handle(LinkSpliced(session.machine.sent))

    assert effects == [ReadHost(True), ReadGuest(False)]


def test_of_a_link_that_ends_after_a_splice_the_guest_is_undone_as_ever() -> None:
    session = counted()
    session.guest((1, READ))
    session.handle(LinkSpliced(session.machine.sent))

    session.handle(LinkEnded(Exact(0)))

    assert session.state is State.HOLDING
    assert not session.machine.settled


def test_a_guest_whose_device_is_gone_may_go_on_elsewhere() -> None:
    session = counted()
    session.host(DeviceDisconnect())

    assert session.state is State.LOST
    assert session.machine.can_splice


def test_there_is_nothing_to_splice_where_it_is_not_known_what_was_read() -> None:
    session = Session()
    session.host(HOST_HELLO)
    session.handle(LinkOpened())
    session.guest(GUEST_HELLO)

    assert not session.machine.can_splice
    with pytest.raises(LocalProtocolError, match="LinkSpliced in state LIVE"):
        session.handle(LinkSpliced(0))


def test_there_is_nothing_to_splice_with_more_unread_than_is_kept() -> None:
    session = counted()
    for _ in range(KEPT_BYTES // len(wire((1, DATA))) + 1):
        session.guest((1, READ))
        session.host((1, DATA))

    assert not session.machine.can_splice


def test_there_is_nothing_to_splice_before_the_guest_has_said_hello() -> None:
    session = Session()
    session.host(HOST_HELLO)
    session.handle(LinkOpened(counts=True))

    assert not session.machine.can_splice


def test_an_offset_that_cannot_be_changes_nothing() -> None:
    session = counted()
    sent = session.machine.sent

    for event in (LinkSpliced(sent + 1), LinkSpliced(sent - 1), Consumed(sent + 1)):
        with pytest.raises(LocalProtocolError):
            session.handle(event)

    assert session.machine.sent == sent
    assert session.machine.can_splice


def test_nothing_is_consumed_without_a_link() -> None:
    session = counted()
    session.handle(LinkEnded(Unknown()))

    for event in (Consumed(0), PokeWanted()):
        with pytest.raises(LocalProtocolError, match="HOLDING"):
            session.handle(event)


# -- pokes --------------------------------------------------------------------------------------


def test_a_poke_is_what_qemu_was_seen_to_ignore() -> None:
    assert given(counted(), PokeWanted()) == POKE


def test_one_poke_is_unread_at_a_time() -> None:
    session = counted()
    session.handle(PokeWanted())

    assert given(session, PokeWanted()) == b""
    session.handle(Consumed(session.machine.sent - 1))
    assert given(session, PokeWanted()) == b""
    session.handle(Consumed(session.machine.sent))
    assert given(session, PokeWanted()) == POKE


def test_a_poke_waits_for_the_end_of_a_packet_that_is_half_sent() -> None:
    session = counted()
    session.guest((1, READ))
    answer = session.wire((1, DATA))
    session.handle(HostBytes(memoryview(answer[:100])))

    assert given(session, PokeWanted()) == b""
    assert given(session, HostBytes(memoryview(answer[100:200]))) == answer[100:200]
    assert given(session, HostBytes(memoryview(answer[200:]))) == answer[200:] + POKE


def test_an_unread_poke_goes_on_to_the_new_link_and_is_still_the_only_one() -> None:
    session = counted()
    session.handle(PokeWanted())
    sent = session.machine.sent

    assert given(session, LinkSpliced(sent - 10)) == POKE[-10:]
    assert given(session, PokeWanted()) == b""
    session.handle(Consumed(10))
    assert given(session, PokeWanted()) == POKE


@pytest.mark.parametrize("state", [State.GREETING, State.DETACHED])
def test_no_poke_where_no_packets_pass(state: State) -> None:
    session = counted()
    if state is State.DETACHED:
        session.handle(DetachRequested())
    else:
        session.handle(LinkEnded(Unknown()))
        session.handle(LinkOpened(counts=True))

    assert session.state is state
    assert given(session, PokeWanted()) == b""


def test_a_poke_that_could_not_be_sent_is_not_sent_to_the_next_guest() -> None:
    session = counted()
    session.guest((1, READ))
    session.handle(HostBytes(memoryview(session.wire((1, DATA))[:100])))
    session.handle(PokeWanted())
    session.handle(LinkEnded(Unknown()))
    session.handle(LinkOpened(counts=True))

    effects = session.guest(GUEST_HELLO)

    assert not any(isinstance(each, SendToGuest) and POKE in bytes(each.data) for each in effects)
