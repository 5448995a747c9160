from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.kubevirt.handshake import MAX_BODY_BYTES, Answer, Refusal

ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
REFUSED = b"HTTP/1.1 409 Conflict\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
TO_THE_END = b"HTTP/1.1 503 Service Unavailable\r\n\r\nhello"


def read(*chunks: bytes) -> Answer:
    answer = Answer()
    for chunk in chunks:
        answer.feed(chunk)
    return answer


def test_101_is_accepted_with_what_comes_behind_it_left_alone() -> None:
    answer = read(ACCEPTED + b"\x82\x05hello")

    assert answer.accepted
    assert answer.refusal is None


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (REFUSED, Refusal(409, {"content-length": "5", "x-a": "b"}, b"hello")),
        (CHUNKED, Refusal(500, {"transfer-encoding": "chunked"}, b"hello")),
        (TO_THE_END, Refusal(503, {}, b"hello")),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_refusal_is_read_whole_however_it_is_cut(wire: bytes, expected: Refusal, size: int) -> None:
    chunks = [wire[start : start + size] for start in range(0, len(wire), size)]

    assert read(*chunks, b"").refusal == expected


def test_refusal_is_not_there_before_its_last_byte() -> None:
    assert read(REFUSED[:-1]).refusal is None
    assert read(TO_THE_END).refusal is None


def test_early_hint_is_not_the_answer() -> None:
    answer = read(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert not answer.accepted

    answer.feed(REFUSED)
    assert answer.refusal is not None
    assert answer.refusal.status == 409


def test_connection_that_closes_unanswered_gives_no_refusal() -> None:
    assert read(b"").refusal is None


def test_answer_that_breaks_off_gives_what_came() -> None:
    assert read(REFUSED[:-1], b"").refusal == Refusal(
        409, {"content-length": "5", "x-a": "b"}, b"hell"
    )


def test_body_is_bounded() -> None:
    answer = read(b"HTTP/1.1 500 Oh\r\n\r\n", bytes(MAX_BODY_BYTES + 1))

    assert answer.refusal is not None
    assert len(answer.refusal.body) == MAX_BODY_BYTES


def test_head_is_bounded() -> None:
    answer = read(b"HTTP/1.1 500 Oh\r\n", *[b"A: " + b"x" * 1000 + b"\r\n"] * 200)

    assert answer.refusal == Refusal(0, {}, b"")


@given(chunks=st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_are_read_without_harm(chunks: list[bytes]) -> None:
    answer = read(*chunks, b"")

    assert not (answer.accepted and answer.refusal)
