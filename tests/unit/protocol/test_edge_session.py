"""Our side of a session with an edge, against edges that are right, torn off, and lying."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.model import Exact, Unknown
from kubectl_vmredir.protocol.edge import (
    Closed,
    Consumed,
    EndReason,
    MessageType,
    Opened,
    Pong,
    QemuSaid,
    RefusalCode,
    Refused,
    encode_ack,
    encode_close,
    encode_forget,
    encode_lockstep,
    encode_open,
    encode_ping,
    encode_resume,
)
from kubectl_vmredir.protocol.edge_session import (
    ACK_BYTES,
    DATA_BYTES,
    EdgeSession,
    SessionState,
)

TOKEN = bytes(range(16))
WINDOW = 100_000


def said(kind: MessageType, payload: bytes = b"") -> bytes:
    return struct.pack("<II", kind, len(payload)) + payload


def greeting(*, window: int = WINDOW, max_payload: int = 65536) -> bytes:
    payload = b"VMRE" + struct.pack("<HHIIB", 1, 4096, window, max_payload, 0)
    return said(MessageType.HELLO, payload)


def consumed(offset: int, *, lockstep: bool = False) -> bytes:
    return said(MessageType.CONSUMED, struct.pack("<QB", offset, lockstep))


def resumed(received: int) -> bytes:
    return said(MessageType.RESUMED, struct.pack("<Q", received))


def closed(
    offset: int, received: int, *, reason: EndReason = EndReason.RESET, exact: bool = True
) -> bytes:
    return said(MessageType.CLOSED, struct.pack("<QQBBH", offset, received, reason, exact, 0))


def refused(code: RefusalCode) -> bytes:
    return said(MessageType.REFUSED, struct.pack("<HH", code, 0))


def data(payload: bytes) -> bytes:
    return said(MessageType.DATA, payload)


OPENED = said(MessageType.OPENED, b"\1")


def new_session(*, lockstep: bool = False) -> EdgeSession:
    session = EdgeSession(TOKEN, wait_s=1, linger_s=60, lockstep=lockstep)
    session.tunnel_opened()
    return session


def opened(
    *, window: int = WINDOW, max_payload: int = 65536, lockstep: bool = False
) -> EdgeSession:
    session = new_session(lockstep=lockstep)
    session.output()
    session.receive(greeting(window=window, max_payload=max_payload) + OPENED)
    return session


def opened_with(sent: int, *, window: int = WINDOW) -> EdgeSession:
    session = opened(window=window)
    session.send(bytes(sent))
    session.output()
    return session


# -- opening --------------------------------------------------------------------------------


def test_first_tunnel_begins_with_open_before_anything_is_heard() -> None:
    session = new_session(lockstep=True)

    assert session.output() == encode_open(TOKEN, wait_s=1, linger_s=60, lockstep=True)
    assert session.state is SessionState.OPENING


def test_opened_is_news() -> None:
    session = new_session()

    assert session.receive(greeting() + OPENED) == [Opened(accepted=True)]
    assert session.state is SessionState.OPEN


@pytest.mark.parametrize("code", [RefusalCode.SLOT_TAKEN, RefusalCode.SESSION_HELD])
def test_refusal_of_what_was_to_be_opened_ends_it(code: RefusalCode) -> None:
    session = new_session()

    assert session.receive(greeting() + refused(code)) == [Refused(code, 0, "")]
    assert session.state is SessionState.REFUSED


def test_nothing_is_sent_before_the_slot_is_open() -> None:
    session = new_session()
    session.output()
    session.send(b"early")
    session.receive(greeting())

    assert session.output() == b""
    session.receive(OPENED)
    assert session.output() == data(b"early")


# -- sending --------------------------------------------------------------------------------


def test_data_is_cut_into_messages_and_stops_at_the_window() -> None:
    session = opened(window=DATA_BYTES + 10)
    session.send(b"a" * DATA_BYTES + b"b" * 20)

    assert session.output() == data(b"a" * DATA_BYTES) + data(b"b" * 10)
    assert session.output() == b""
    session.receive(consumed(4))
    assert session.output() == data(b"b" * 4)


def test_edge_that_takes_small_messages_gets_small_ones() -> None:
    session = opened(max_payload=2)
    session.send(memoryview(b"abc"))

    assert session.output() == data(b"ab") + data(b"c")


def test_what_is_not_known_to_be_consumed_is_kept_for_the_next_qemu() -> None:
    session = opened_with(0)
    session.send(b"abcdef")
    session.output()
    session.send(b"unsent")

    session.receive(consumed(4))

    assert session.unconsumed() == b"efunsent"
    assert (session.consumed, session.queued) == (4, 12)


@pytest.mark.parametrize("offset", [2, 11])
def test_consumed_that_goes_back_or_beyond_what_was_sent_is_a_lie(offset: int) -> None:
    session = opened_with(10)
    session.receive(consumed(3))

    with pytest.raises(RemoteProtocolError, match=f"consumed {offset} bytes after 3"):
        session.receive(consumed(offset))


def test_consumed_of_what_is_queued_and_not_sent_is_a_lie() -> None:
    session = opened()
    session.send(b"queued")

    with pytest.raises(RemoteProtocolError, match="0 were sent"):
        session.receive(consumed(1))


# -- lockstep, pings ------------------------------------------------------------------------


def test_lockstep_is_proven_by_what_the_edge_says_after_it_was_asked() -> None:
    session = opened_with(10)

    session.lockstep(on=True)

    assert session.output() == encode_lockstep(on=True)
    session.receive(consumed(5))
    assert not session.lockstep_proven
    session.receive(consumed(10, lockstep=True))
    assert session.lockstep_proven


def test_lockstep_that_nobody_wants_any_more_is_not_proven_by_an_old_word() -> None:
    session = opened(lockstep=True)
    session.receive(consumed(0, lockstep=True))

    session.lockstep(on=False)
    session.receive(consumed(0, lockstep=True))

    assert not session.lockstep_proven


def test_pong_is_news() -> None:
    session = opened()
    session.ping(9)

    assert session.output() == encode_ping(9)
    assert session.receive(said(MessageType.PONG, struct.pack("<Q", 9))) == [Pong(9)]


# -- receiving ------------------------------------------------------------------------------


def test_what_qemu_said_is_acknowledged_now_and_then() -> None:
    session = opened()

    session.receive(data(b"x" * 30_000) + data(b"x" * 30_000))
    early = session.output()
    news = session.receive(data(b"y" * (ACK_BYTES - 60_000)))

    assert early == b""
    assert news == [QemuSaid(b"y" * (ACK_BYTES - 60_000))]
    assert session.output() == encode_ack(ACK_BYTES)
    assert session.received == ACK_BYTES


# -- the end --------------------------------------------------------------------------------


@pytest.mark.parametrize(("exact", "boundary"), [(True, Exact(7)), (False, Unknown())])
def test_end_brings_the_boundary(exact: bool, boundary: Exact | Unknown) -> None:
    session = opened_with(10)
    before = session.boundary

    news = session.receive(data(b"q") + closed(7, 1, exact=exact))

    assert before is None
    assert news[-1] == Closed(7, 1, EndReason.RESET, exact=exact, errno=0)
    assert session.boundary == boundary
    assert session.state is SessionState.CLOSED
    assert session.unconsumed() == bytes(3)


def test_close_and_forget_are_said() -> None:
    session = opened()
    session.close()
    asked = session.output()
    session.receive(closed(0, 0, reason=EndReason.CLOSED_BY_US))
    session.forget()

    assert asked == encode_close()
    assert session.output() == encode_forget()


def test_session_that_is_open_cannot_be_forgotten() -> None:
    with pytest.raises(LocalProtocolError, match="OPEN"):
        opened().forget()


def test_close_ends_the_wait_for_a_slot_too() -> None:
    session = new_session()
    session.close()

    session.receive(greeting() + closed(0, 0, reason=EndReason.CLOSED_BY_US))

    assert session.boundary == Exact(0)


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        (closed(11, 0), "consumed 11 bytes"),
        (closed(10, 1), "QEMU said 1 bytes, 0 have come"),
        (closed(10, 0, reason=EndReason.ERROR), "exact boundary after an error"),
        (greeting(), "Greeting in the wrong place"),
        (refused(RefusalCode.SLOT_TAKEN), "SLOT_TAKEN of an open slot"),
        (resumed(10), "not asked for"),
        (closed(10, 0) + data(b"x"), "QemuSaid while the session is CLOSED"),
        (closed(10, 0) + consumed(10), "Consumed while the session is CLOSED"),
        (closed(10, 0) + closed(10, 0), "Closed while the session is CLOSED"),
    ],
)
def test_lies_about_an_open_session_are_the_fault_of_the_edge(lie: bytes, complaint: str) -> None:
    session = opened_with(10)

    with pytest.raises(RemoteProtocolError, match=complaint):
        session.receive(lie)


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        (OPENED, "Opened in the wrong place"),
        (greeting() + data(b"x"), "QemuSaid while the session is OPENING"),
        (greeting() + refused(RefusalCode.SLOT_SILENT) + OPENED, "not asked for"),
    ],
)
def test_lies_about_a_session_that_opens_are_the_fault_of_the_edge(
    lie: bytes, complaint: str
) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        new_session().receive(lie)


# -- torn tunnels ---------------------------------------------------------------------------


def test_next_tunnel_resumes_where_the_edge_stands() -> None:
    session = opened()
    session.send(b"abcdef")
    session.output()
    session.receive(data(b"xyz") + consumed(2))

    session.tunnel_opened()
    begin = session.output()
    session.receive(greeting())
    before = session.output()
    news = session.receive(resumed(4) + OPENED + consumed(3))

    assert begin == encode_resume(TOKEN, sent=6, received=3) + encode_lockstep(on=False)
    assert before == b""
    assert news == [Consumed(3, lockstep=False)]
    assert not session.resuming
    assert session.output() == data(b"ef")


@pytest.mark.parametrize("received", [1, 7])
def test_edge_cannot_have_got_less_than_was_consumed_or_more_than_was_sent(received: int) -> None:
    session = opened_with(6)
    session.receive(consumed(2))
    session.tunnel_opened()

    with pytest.raises(RemoteProtocolError, match=f"got {received} bytes of 6, 2 are consumed"):
        session.receive(greeting() + resumed(received))


@pytest.mark.parametrize("message", [data(b"x"), consumed(0), closed(0, 0), OPENED])
def test_nothing_of_the_session_comes_before_it_is_resumed(message: bytes) -> None:
    session = opened()
    session.tunnel_opened()

    with pytest.raises(RemoteProtocolError, match=r"while the session is OPEN|not asked for"):
        session.receive(greeting() + message)


def test_refused_resume_leaves_the_session_as_it_is_known() -> None:
    session = opened_with(6)
    session.tunnel_opened()

    news = session.receive(greeting() + refused(RefusalCode.SESSION_UNKNOWN))

    assert news == [Refused(RefusalCode.SESSION_UNKNOWN, 0, "")]
    assert session.state is SessionState.OPEN
    assert session.resuming
    assert session.unconsumed() == bytes(6)


def test_wishes_survive_a_tunnel() -> None:
    session = opened()
    session.lockstep(on=True)
    session.close()

    session.tunnel_opened()

    resume = encode_resume(TOKEN, sent=0, received=0)
    assert session.output() == resume + encode_lockstep(on=True) + encode_close()


def test_message_that_was_cut_by_the_end_of_its_tunnel_is_forgotten() -> None:
    session = opened()
    session.receive(data(b"x" * 10)[:12])
    session.tunnel_opened()

    assert session.receive(greeting() + resumed(0) + OPENED + data(b"whole")) == [
        QemuSaid(b"whole")
    ]
    assert session.received == 5


# -- properties -----------------------------------------------------------------------------


class ModelEdge:
    """An edge as docs/edge.md describes it, which answers all at once."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.consumed = 0
        self.told = bytearray()

    def take(self, output: bytes, limit: int | None = None) -> bytes:
        """Read messages of ours, as far as they came, and answer."""
        answer, position = b"", 0
        output = output[:limit]
        while len(output) - position >= 8:
            kind, size = struct.unpack_from("<II", output, position)
            payload = output[position + 8 : position + 8 + size]
            if len(payload) < size:
                break
            position += 8 + size
            match kind:
                case MessageType.OPEN:
                    answer += OPENED
                case MessageType.RESUME:
                    sent, received = struct.unpack("<16xQQ", payload)
                    assert len(self.got) <= sent
                    missing = bytes(self.told[received:])
                    answer += resumed(len(self.got)) + OPENED + (data(missing) if missing else b"")
                case MessageType.DATA:
                    self.got += payload
                    assert len(self.got) - self.consumed <= WINDOW
                case _:  # LOCKSTEP
                    pass
        return answer


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.binary(min_size=1, max_size=300)),
        st.tuples(st.just("say"), st.binary(min_size=1, max_size=300)),
        st.tuples(st.just("read"), st.integers(0, 400)),
        st.tuples(st.just("tear"), st.integers(0, 400)),
    ),
    max_size=40,
)


@given(steps=steps)
def test_torn_tunnels_lose_and_repeat_nothing(steps: list[tuple[str, bytes | int]]) -> None:
    session, edge = new_session(), ModelEdge()
    sent, heard = bytearray(), bytearray()

    def hear(wire: bytes) -> None:
        for message in session.receive(wire):
            if isinstance(message, QemuSaid):
                heard.extend(message.data)

    hear(greeting() + edge.take(session.output()))
    for step in steps:
        match step:
            case ("send", bytes() as payload):
                session.send(payload)
                sent += payload
                edge.take(session.output())
            case ("say", bytes() as payload):
                edge.told += payload
                hear(data(payload))
            case ("read", int() as count):
                edge.consumed = min(edge.consumed + count, len(edge.got))
                hear(consumed(edge.consumed))
            case (_, limit):
                assert isinstance(limit, int)
                session.send(b"!" * 7)
                sent += b"!" * 7
                edge.take(session.output(), limit)  # the rest is lost with the tunnel
                edge.told += b"?" * 5  # and so is this
                session.tunnel_opened()
                hear(greeting() + edge.take(session.output()))
                edge.take(session.output())

    assert bytes(edge.got) == bytes(sent)
    assert bytes(heard) == bytes(edge.told)
    assert session.unconsumed() == bytes(sent[edge.consumed :])


@given(
    messages=st.lists(
        st.one_of(
            st.integers(0, 30).map(consumed),
            st.integers(0, 30).map(resumed),
            st.binary(min_size=1, max_size=9).map(data),
            st.sampled_from(RefusalCode).map(refused),
            st.builds(closed, st.integers(0, 30), st.integers(0, 20), exact=st.booleans()),
            st.sampled_from([OPENED, greeting()]),
        ),
        max_size=20,
    ),
    resumes=st.booleans(),
)
def test_no_edge_makes_a_session_believe_what_cannot_be(
    messages: list[bytes], resumes: bool
) -> None:
    session = opened_with(20)
    if resumes:
        session.tunnel_opened()
    offset = session.consumed

    with contextlib.suppress(RemoteProtocolError):
        for message in messages:
            session.receive(message)
            assert offset <= session.consumed <= 20
            offset = session.consumed

    assert len(session.unconsumed()) == 20 - session.consumed
    if isinstance(session.boundary, Exact):
        assert session.boundary.offset == session.consumed
