from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.continuity.passage import Passage


def test_a_chunk_that_passes_is_the_view_it_was() -> None:
    passage = Passage()
    chunk = memoryview(b"packet")

    passage.feed(chunk)
    (piece,) = passage.close(6)

    assert piece is chunk


def test_what_comes_before_a_dropped_packet_passes_and_what_comes_after() -> None:
    passage = Passage()

    passage.feed(memoryview(b"aaaXXbb"))
    before = passage.emit(3)
    passage.drop(5)
    after = passage.close(7)

    assert [*before, *after] == [b"aaa", b"bb"]


def test_the_rest_of_a_dropped_packet_is_dropped_when_it_comes() -> None:
    passage = Passage()

    passage.feed(memoryview(b"X"))
    passage.drop(3)
    assert passage.close(3) == ()
    assert passage.done == 3
    passage.feed(memoryview(b"X"))
    assert passage.close(3) == ()
    passage.feed(memoryview(b"Xbb"))
    pieces = passage.close(5)

    assert list(pieces) == [b"bb"]


def test_what_is_not_decided_about_is_held() -> None:
    passage = Passage()

    passage.feed(memoryview(b"aaB"))
    first = passage.close(2)
    passage.feed(memoryview(b"B"))
    second = passage.close(2)
    passage.feed(memoryview(b"Bcc"))
    third = passage.close(7)

    assert list(first) == [b"aa"]
    assert list(second) == []
    assert list(third) == [b"BB", b"Bcc"]
    assert passage.offset == passage.done == 7


def test_what_is_held_can_be_dropped() -> None:
    passage = Passage()

    passage.feed(memoryview(b"XX"))
    passage.close(0)
    passage.feed(memoryview(b"Xaa"))
    before = passage.emit(0)
    passage.drop(3)
    after = passage.close(5)

    assert [*before, *after] == [b"aa"]


def test_drop_does_not_go_back() -> None:
    passage = Passage()
    passage.feed(memoryview(b"aa"))
    passage.close(2)

    passage.drop(1)

    assert passage.done == 2


def test_drop_of_what_is_done_leaves_what_is_held() -> None:
    passage = Passage()
    passage.feed(memoryview(b"aaB"))
    passage.close(2)

    passage.drop(2)
    passage.feed(memoryview(b"B"))

    assert list(passage.close(4)) == [b"B", b"B"]


def test_what_is_held_is_a_copy() -> None:
    passage = Passage()
    buffer = bytearray(b"ab")
    passage.feed(memoryview(buffer))
    passage.close(0)
    buffer[:] = b"??"

    passage.feed(memoryview(b"c"))

    assert b"".join(passage.close(3)) == b"abc"


@given(
    packets=st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=20),
    sizes=st.lists(st.integers(1, 12), min_size=1),
)
def test_exactly_the_packets_that_pass_come_out(
    packets: list[tuple[int, bool]], sizes: list[int]
) -> None:
    stream = b"".join(bytes([65 + number]) * size for number, (size, _) in enumerate(packets))
    wanted = b"".join(
        bytes([65 + number]) * size for number, (size, passes) in enumerate(packets) if passes
    )
    ends: list[tuple[int, int, bool]] = []
    offset = 0
    for size, passes in packets:
        ends.append((offset, offset + size, passes))
        offset += size
    passage = Passage()
    got = b""
    position = 0
    turn = 0
    while position < len(stream):
        size = sizes[turn % len(sizes)]
        turn += 1
        passage.feed(memoryview(stream[position : position + size]))
        came = min(position + size, len(stream))
        whole = 0
        for start, end, passes in ends:
            if end <= came:
                if not passes and end > position:
                    got += b"".join(passage.emit(start))
                    passage.drop(end)
                whole = end
        got += b"".join(passage.close(whole))
        position = came

    assert got == wanted
