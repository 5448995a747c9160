"""The messages between us and the edge: docs/edge.md."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.protocol.edge import (
    MAX_DATA,
    MAX_PAYLOAD,
    MAX_TEXT,
    Closed,
    Consumed,
    EdgeMessage,
    EdgeParser,
    EdgePhase,
    EndReason,
    Greeting,
    Opened,
    Pong,
    QemuSaid,
    RefusalCode,
    Refused,
    Resumed,
    encode_ack,
    encode_close,
    encode_data_header,
    encode_forget,
    encode_lockstep,
    encode_open,
    encode_ping,
    encode_resume,
)
from tests.support.protocol_strategies import chunk_sizes, chunked

TOKEN = bytes(range(16))

# Bytes written out by hand from the tables in docs/edge.md.
HEARD = [
    pytest.param(
        Greeting(4096, 1 << 20, 1 << 16, EdgePhase.OPEN),
        "01000000 11000000 564d5245 0100 0010 00001000 00000100 02",
        id="hello",
    ),
    pytest.param(Resumed(513), "04000000 08000000 0102000000000000", id="resumed"),
    pytest.param(Opened(accepted=True), "05000000 01000000 01", id="opened"),
    pytest.param(
        Refused(RefusalCode.SLOT_ERROR, 111, "no"),
        "06000000 06000000 0400 6f00 6e6f",
        id="refused",
    ),
    pytest.param(QemuSaid(b"abc"), "07000000 03000000 616263", id="data"),
    pytest.param(
        Consumed(4096, lockstep=True), "08000000 09000000 0010000000000000 01", id="consumed"
    ),
    pytest.param(Pong(1), "0c000000 08000000 0100000000000000", id="pong"),
    pytest.param(
        Closed(5, 6, EndReason.RESET, exact=True, errno=2),
        "0e000000 14000000 0500000000000000 0600000000000000 01 01 0200",
        id="closed",
    ),
]
SAID = [
    pytest.param(
        encode_open(TOKEN, wait_s=1.5, linger_s=60),
        "02000000 19000000 000102030405060708090a0b0c0d0e0f dc050000 3c000000 00",
        id="open",
    ),
    pytest.param(
        encode_open(TOKEN, wait_s=0, linger_s=0, take=True, lockstep=True),
        "02000000 19000000 000102030405060708090a0b0c0d0e0f 00000000 00000000 03",
        id="open-flags",
    ),
    pytest.param(
        encode_resume(TOKEN, sent=1, received=2),
        "03000000 20000000 000102030405060708090a0b0c0d0e0f 0100000000000000 0200000000000000",
        id="resume",
    ),
    pytest.param(encode_data_header(5), "07000000 05000000", id="data"),
    pytest.param(encode_ack(258), "09000000 08000000 0201000000000000", id="ack"),
    pytest.param(encode_lockstep(on=True), "0a000000 01000000 01", id="lockstep"),
    pytest.param(encode_ping(7), "0b000000 08000000 0700000000000000", id="ping"),
    pytest.param(encode_close(), "0d000000 00000000", id="close"),
    pytest.param(encode_forget(), "0f000000 00000000", id="forget"),
]


@pytest.mark.parametrize(("message", "wire"), HEARD)
def test_what_an_edge_says_is_understood(message: EdgeMessage, wire: str) -> None:
    assert EdgeParser().feed(bytes.fromhex(wire)) == [message]


@pytest.mark.parametrize(("said", "wire"), SAID)
def test_what_we_say_is_as_written(said: bytes, wire: str) -> None:
    assert said == bytes.fromhex(wire)


@pytest.mark.parametrize(
    ("wire", "complaint"),
    [
        ("00000000 00000000", "type 0"),
        ("02000000 00000000", "type 2"),
        ("07010000 01000000", "type 263"),
        ("01000000 10000000", "HELLO of 16 bytes"),
        ("07000000 00000000", "DATA of 0 bytes"),
        ("07000000 01800000", "DATA of 32769 bytes"),
        ("06000000 05100000", "REFUSED of 4101 bytes"),
        ("06000000 03000000", "REFUSED of 3 bytes"),
        ("08000000 09000000 0000000000000000 02", "2 for yes or no"),
        ("05000000 01000000 ff", "255 for yes or no"),
        ("06000000 04000000 0900 0000", "RefusalCode 9"),
        ("0e000000 14000000" + "00" * 16 + "04 00 0000", "EndReason 4"),
        ("0e000000 14000000" + "00" * 16 + "00 02 0000", "2 for yes or no"),
        ("01000000 11000000 53534821 0100 0010 00001000 00000100 00", "something else answers"),
        ("01000000 11000000 564d5245 0200 0010 00001000 00000100 00", "version 2"),
        ("01000000 11000000 564d5245 0100 0000 00001000 00000100 00", "out of bounds"),
        ("01000000 11000000 564d5245 0100 0010 00000000 00000100 00", "out of bounds"),
        ("01000000 11000000 564d5245 0100 0010 01000001 00000100 00", "out of bounds"),
        ("01000000 11000000 564d5245 0100 0010 00001000 00000000 00", "out of bounds"),
        ("01000000 11000000 564d5245 0100 0010 00001000 00000100 04", "EdgePhase 4"),
    ],
)
def test_what_no_edge_says_is_its_fault(wire: str, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        EdgeParser().feed(bytes.fromhex(wire))


def test_size_is_refused_before_anything_of_the_message_is_kept() -> None:
    parser = EdgeParser()

    with pytest.raises(RemoteProtocolError, match="DATA of 4294967295 bytes"):
        parser.feed(bytes.fromhex("07000000 ffffffff"))


def test_parser_stays_broken_after_a_fault() -> None:
    parser = EdgeParser()
    with pytest.raises(RemoteProtocolError, match="type 99"):
        parser.feed(bytes.fromhex("63000000 00000000"))

    with pytest.raises(RemoteProtocolError, match="type 99"):
        parser.feed(bytes.fromhex("05000000 01000000 01"))


def test_limits_that_are_larger_than_ours_are_cut_to_ours() -> None:
    hello = bytes.fromhex("01000000 11000000 564d5245 0100 0010 00001000 ffffffff 00")

    (greeting,) = EdgeParser().feed(hello)

    assert greeting == Greeting(4096, 1 << 20, MAX_PAYLOAD, EdgePhase.NONE)


def test_text_that_is_no_text_is_shown_all_the_same() -> None:
    (refused,) = EdgeParser().feed(bytes.fromhex("06000000 06000000 0100 0000 ff41"))

    assert refused == Refused(RefusalCode.SLOT_TAKEN, 0, "\ufffdA")


def test_longest_text_is_taken() -> None:
    header = bytes.fromhex("06000000 04100000 0100 0000")

    (refused,) = EdgeParser().feed(header + b"x" * MAX_TEXT)

    assert isinstance(refused, Refused)
    assert len(refused.text) == MAX_TEXT


@pytest.mark.parametrize("size", [-1, 0, MAX_PAYLOAD + 1])
def test_data_of_a_size_that_no_message_has_is_our_fault(size: int) -> None:
    with pytest.raises(LocalProtocolError, match="in one message"):
        encode_data_header(size)


@pytest.mark.parametrize(
    ("token", "wait_s", "linger_s"),
    [(b"short", 0, 0), (TOKEN, -1, 0), (TOKEN, 601, 0), (TOKEN, 0, -1), (TOKEN, 0, 3601)],
)
def test_open_out_of_bounds_is_our_fault(token: bytes, wait_s: float, linger_s: int) -> None:
    with pytest.raises(LocalProtocolError, match="out of bounds"):
        encode_open(token, wait_s=wait_s, linger_s=linger_s)


@given(
    numbers=st.lists(st.integers(0, len(HEARD) - 1), max_size=12),
    payloads=st.binary(min_size=1, max_size=MAX_DATA),
    sizes=chunk_sizes,
)
def test_messages_come_out_however_the_stream_is_cut(
    numbers: list[int], payloads: bytes, sizes: list[int]
) -> None:
    wires = [bytes.fromhex(str(HEARD[number].values[1])) for number in numbers]
    data = b"".join(wires) + encode_data_header(len(payloads)) + payloads
    parser = EdgeParser()

    found = [message for chunk in chunked(data, sizes) for message in parser.feed(chunk)]

    assert found == [*(HEARD[number].values[0] for number in numbers), QemuSaid(payloads)]


@given(data=st.binary(max_size=200), sizes=chunk_sizes)
def test_any_bytes_parse_or_are_the_fault_of_the_edge(data: bytes, sizes: list[int]) -> None:
    parser = EdgeParser()

    with contextlib.suppress(RemoteProtocolError):
        for chunk in chunked(data, sizes):
            parser.feed(chunk)
