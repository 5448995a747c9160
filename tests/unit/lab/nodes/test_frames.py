from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.lab.nodes import frames
from kubectl_vmredir.lab.nodes.frames import Closed, Event, FrameReader, Payload, Ping, Violation

MASK = bytes.fromhex("37fa213d")


def masked(first: int, payload: bytes = b"", *, mask: bytes = MASK) -> bytes:
    """A frame of a client, written out as RFC 6455 section 5.2 has it."""
    length = len(payload)
    if length <= 125:
        head = bytes((first, 0x80 | length))
    elif length < 1 << 16:
        head = bytes((first, 0xFE)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, 0xFF)) + length.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def joined(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Payload))


# -- what a client receives: docs/facts/kubevirt.md, Framing ---------------

MEASURED = [
    pytest.param(1, ["8201"], [1], id="1"),
    pytest.param(125, ["827d"], [125], id="125"),
    pytest.param(126, ["827e007e"], [126], id="126"),
    pytest.param(10240, ["827e2800"], [10240], id="10240"),
    pytest.param(10241, ["027e2800", "8001"], [10240, 1], id="10241"),
    pytest.param(16384, ["027e2800", "807e1800"], [10240, 6144], id="16384"),
    pytest.param(20480, ["027e2800", "807e2800"], [10240, 10240], id="20480"),
    pytest.param(20481, ["027e2800", "007e2800", "8001"], [10240, 10240, 1], id="20481"),
    pytest.param(20508, ["027e2800", "007e2800", "801c"], [10240, 10240, 28], id="20508"),
    pytest.param(20509, ["027e501d", "8000"], [20509, 0], id="20509"),
    pytest.param(32768, ["027e8000", "8000"], [32768, 0], id="32768"),
]


@pytest.mark.parametrize(("length", "heads", "lengths"), MEASURED)
def test_one_read_of_the_guest_is_fragmented_as_gorilla_does(
    length: int, heads: list[str], lengths: list[int]
) -> None:
    payload = bytes(i % 251 for i in range(length))

    expected, at = b"", 0
    for head, part in zip(heads, lengths, strict=True):
        expected += bytes.fromhex(head) + payload[at : at + part]
        at += part
    assert frames.message(payload) == expected


def test_a_long_frame_has_a_length_of_eight_bytes() -> None:
    assert frames.message(bytes(1 << 16))[:10] == bytes.fromhex("027f0000000000010000")


def test_control_frames() -> None:
    assert frames.pong(b"hi") == bytes.fromhex("8a02") + b"hi"
    assert frames.close(1000) == bytes.fromhex("880203e8")
    assert frames.close(frames.CloseCode.NO_STATUS) == bytes.fromhex("8800")
    assert frames.close(1002, "bad MASK") == bytes.fromhex("880a03ea") + b"bad MASK"


# -- what a client sends ---------------------------------------------------------------------------


def test_the_example_of_the_rfc() -> None:
    # RFC 6455 section 5.7, "a single-frame masked text message", made binary.
    events = FrameReader().feed(bytes.fromhex("82 85 37fa213d 7f9f4d5158"))

    assert events == [Payload(bytearray(b"Hello"))]


def test_payload_is_handed_on_before_its_frame_ends() -> None:
    reader = FrameReader()
    frame = masked(0x82, b"0123456789")

    assert joined(reader.feed(frame[:9])) == b"012"
    assert joined(reader.feed(frame[9:])) == b"3456789"


def test_text_messages_are_dropped_with_their_continuations() -> None:
    reader = FrameReader()
    text = masked(0x01, b"no") + masked(0x00, b"no") + masked(0x80, b"no")

    assert joined(reader.feed(text + masked(0x82, b"yes"))) == b"yes"


def test_a_ping_between_fragments_is_told_and_does_not_end_the_message() -> None:
    reader = FrameReader()

    events = reader.feed(masked(0x02, b"a") + masked(0x89, b"?") + masked(0x80, b"b"))

    assert events == [Payload(bytearray(b"a")), Ping(b"?"), Payload(bytearray(b"b"))]


def test_pongs_and_empty_frames_mean_nothing() -> None:
    assert FrameReader().feed(masked(0x8A, b"x") + masked(0x02) + masked(0x80)) == []


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (masked(0x88, bytes.fromhex("03e8")), 1000),
        (masked(0x88, bytes.fromhex("03e9") + b"bye"), 1001),
        (masked(0x88, bytes.fromhex("0fa0")), 4000),
        (masked(0x88), 1005),
        (masked(0x88, b"\x03"), 1005),
    ],
)
def test_a_close_frame_ends_everything(frame: bytes, code: int) -> None:
    reader = FrameReader()

    assert reader.feed(frame + masked(0x82, b"late")) == [Closed(code)]
    assert reader.feed(masked(0x82, b"later")) == []


VIOLATIONS = [
    pytest.param(masked(0xC2, b"x"), "RSV1 set", id="rsv1"),
    pytest.param(masked(0xB2, b"x"), "RSV2 set, RSV3 set", id="rsv2-rsv3"),
    pytest.param(masked(0x83, b"x"), "bad opcode 3", id="opcode"),
    pytest.param(masked(0x89, bytes(126)), "len > 125 for control", id="long-ping"),
    pytest.param(masked(0x09), "FIN not set on control", id="fragmented-ping"),
    pytest.param(masked(0x80, b"x"), "continuation after FIN", id="continuation"),
    pytest.param(masked(0x02, b"x") + masked(0x82, b"y"), "data before FIN", id="new-message"),
    pytest.param(bytes.fromhex("820178"), "bad MASK", id="unmasked"),
    pytest.param(masked(0x88, bytes.fromhex("03ed")), "bad close code 1005", id="close-code"),
    pytest.param(
        masked(0x88, bytes.fromhex("03e8ff")),
        "invalid utf8 payload in close frame",
        id="close-text",
    ),
]


@pytest.mark.parametrize(("wire", "reason"), VIOLATIONS)
def test_violations_are_told_in_the_words_of_gorilla(wire: bytes, reason: str) -> None:
    reader = FrameReader()

    assert reader.feed(wire)[-1] == Violation(reason)
    assert reader.feed(masked(0x82, b"later")) == []


@given(
    messages=st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=3), max_size=5),
    mask=st.binary(min_size=4, max_size=4),
    cuts=st.lists(st.integers(0, 5000), max_size=10),
)
def test_any_fragmentation_and_any_chunking_give_the_same_bytes(
    messages: list[list[bytes]], mask: bytes, cuts: list[int]
) -> None:
    wire = b""
    for parts in messages:
        for i, part in enumerate(parts):
            final = 0x80 if i == len(parts) - 1 else 0
            wire += masked(final | (2 if i == 0 else 0), part, mask=mask)
    edges = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]

    reader = FrameReader()
    seen = b"".join(joined(reader.feed(wire[a:b])) for a, b in itertools.pairwise(edges))

    assert seen == b"".join(b"".join(parts) for parts in messages)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken(wire: bytes) -> None:
    FrameReader().feed(wire)
