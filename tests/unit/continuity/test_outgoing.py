from __future__ import annotations

import pytest

from kubectl_vmredir.continuity.outgoing import KEPT_BYTES, Outgoing
from kubectl_vmredir.errors import LocalProtocolError


def outgoing(*pieces: bytes, keeps: bool = True) -> Outgoing:
    out = Outgoing()
    out.open(keeps=keeps)
    for piece in pieces:
        out.add(memoryview(piece))
    return out


@pytest.mark.parametrize("offset", range(8))
def test_what_is_unread_is_the_rest_at_any_offset(offset: int) -> None:
    out = outgoing(b"abc", b"d", b"efg")

    assert out.splice(offset) == b"abcdefg"[offset:]


def test_what_was_read_in_several_steps_is_not_given_out_again() -> None:
    out = outgoing(b"abc", b"def")
    out.note_read(2)
    out.note_read(4)
    out.add(b"g")

    assert out.splice(5) == b"fg"


def test_offsets_count_from_the_first_byte_of_the_new_link() -> None:
    out = outgoing(b"abcdef")
    out.splice(4)
    out.add(b"gh")

    assert (out.sent, out.read) == (4, 0)
    assert out.splice(1) == b"fgh"


def test_the_bytes_are_its_own() -> None:
    chunk = bytearray(b"abc")
    out = outgoing()
    out.add(memoryview(chunk))
    chunk[:] = b"xyz"

    assert out.splice(0) == b"abc"


@pytest.mark.parametrize("offset", [1, 7])
def test_no_offset_before_the_last_one_or_beyond_what_was_sent(offset: int) -> None:
    out = outgoing(b"abcdef")
    out.note_read(2)

    with pytest.raises(LocalProtocolError, match="2 were before, 6 were sent"):
        out.note_read(offset)

    assert out.read == 2


def test_a_link_that_tells_nothing_has_nothing_kept() -> None:
    assert not outgoing(b"abc", keeps=False).complete


def test_no_more_than_the_bound_is_kept_until_the_next_link() -> None:
    out = outgoing(bytes(KEPT_BYTES - 1), b"a")
    assert out.complete

    out.add(b"b")

    assert not out.complete
    out.add(b"c")
    assert out.sent == KEPT_BYTES + 2
    out.open(keeps=True)
    assert out.complete


def test_what_is_read_makes_room() -> None:
    out = outgoing(bytes(KEPT_BYTES))

    out.note_read(KEPT_BYTES)
    out.add(b"a")

    assert out.complete
    assert out.splice(KEPT_BYTES) == b"a"
