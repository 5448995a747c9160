from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.wires import Plain, Websocket
from kubectl_vmredir.lab.nodes import frames as frames_of_lab
from kubectl_vmredir.lab.nodes.frames import FrameReader, Payload

MASK = b"\x01\x02\x03\x04"


def client_frame(size: int) -> bytes:
    """Return a frame of a client; its payload is not looked at."""
    if size < 126:
        header = struct.pack(">BB", 0x82, 0x80 | size)
    elif size < 1 << 16:
        header = struct.pack(">BBH", 0x82, 0x80 | 126, size)
    else:
        header = struct.pack(">BBQ", 0x82, 0x80 | 127, size)
    return header + MASK + b"\x82" * size


@given(
    sizes=st.lists(st.sampled_from([0, 1, 125, 126, 538, 65_535, 65_536, 70_000]), max_size=5),
    steps=st.lists(st.integers(1, 30_000), min_size=1, max_size=5),
)
def test_payload_is_counted_however_the_stream_is_cut(sizes: list[int], steps: list[int]) -> None:
    wire, stream = Websocket(), memoryview(b"".join(map(client_frame, sizes)))
    counted = position = number = 0
    while position < len(stream):
        step = steps[number % len(steps)]
        counted += wire.count(stream[position : position + step])
        position += step
        number += 1

    assert counted == sum(sizes)


def test_header_may_come_byte_by_byte() -> None:
    wire, frame = Websocket(), client_frame(70_000)

    assert [wire.count(memoryview(frame[at : at + 1])) for at in range(14)] == [0] * 14
    assert wire.count(memoryview(frame[14:])) == 70_000


def test_frame_of_another_kind_is_not_taken_for_data() -> None:
    with pytest.raises(AssertionError, match="neither a ping nor a whole message"):
        Websocket().count(memoryview(b"\x88" + client_frame(200)[1:]))


@pytest.mark.parametrize("size", [0, 8])
def test_ping_between_messages_is_no_data_and_can_be_answered(size: int) -> None:
    ping = b"\x89" + client_frame(size)[1:]
    frames = client_frame(200) + ping + client_frame(300)
    whole, by_bytes = Websocket(), Websocket()

    counted = [by_bytes.count(memoryview(frames[at : at + 1])) for at in range(len(frames))]

    assert whole.count(memoryview(frames)) == sum(counted) == 500
    payload = bytes(0x82 ^ key for _, key in zip(range(size), itertools.cycle(MASK)))
    assert whole.pongs == by_bytes.pongs == [frames_of_lab.pong(payload)]


def test_packet_is_wrapped_in_messages_of_what_virt_handler_reads_at_once() -> None:
    packet = bytes(65_562)

    wrapped = Websocket().wrap(packet)

    # 2 messages of 32 KiB, each of a frame and an empty continuation, and one of the rest.
    assert len(wrapped) == len(packet) + 2 * (4 + 2) + 2
    assert wrapped[:2] == b"\x02\x7e"


def test_handshake_is_answered_once_its_head_is_whole() -> None:
    wire = Websocket()
    head = (
        b"GET /usbredir HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )

    assert wire.accept(head[:-1]) is None
    answer = wire.accept(head)

    assert answer is not None
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer


def test_lab_reads_the_frames_that_are_counted() -> None:
    events = FrameReader().feed(client_frame(538))

    assert sum(len(event.data) for event in events if isinstance(event, Payload)) == 538


def test_plain_bytes_are_as_they_are() -> None:
    wire = Plain()

    assert wire.accept(b"") == b""
    assert wire.wrap(b"packet") == b"packet"
    assert wire.count(memoryview(b"packet")) == 6
