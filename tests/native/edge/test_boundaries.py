"""Where QEMU stopped reading: the edge knows it to the byte, or says that it does not."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
from typing import Final

import pytest

from kubectl_vmredir.model import Exact, Unknown
from kubectl_vmredir.protocol.edge import EndReason
from tests.support.edges import QEMU_READ_BYTES, EdgeBed, Slot

pytestmark = pytest.mark.native

STRIDE: Final = int(os.environ.get("VMREDIR_EDGE_STRIDE", "61"))
"""1 tries each byte of a chunk; the default as many as are quick."""
RACES: Final = int(os.environ.get("VMREDIR_EDGE_RACES", "40"))
SIZES: Final = sorted({1, 2, 4094, 4095, 4096, 4097, *range(1, 4098, STRIDE)})


def test_boundary_is_exact_at_each_byte_that_a_chunk_may_end_with(bed: EdgeBed) -> None:
    for size in SIZES:
        client = bed.opened(lockstep=True)
        client.send(b"r" * size)
        client.flushed()
        bed.slot.heard.clear()
        bed.slot.read_until(size)
        client.consumed(size)
        client.send(b"u" * size)
        client.flushed()
        bed.slot.wait_until_readable()
        bed.slot.hang_up()

        closed = client.closed()

        assert (closed.consumed, closed.reason) == (size, EndReason.RESET)
        assert client.session.boundary == Exact(size)
        assert client.session.unconsumed() == b"u" * size
        client.session.forget()
        client.flushed()
        client.tear()


@pytest.mark.parametrize("reads", range(4))
def test_boundary_lies_where_the_last_read_ended(bed: EdgeBed, reads: int) -> None:
    client = bed.opened(lockstep=True)
    client.send(bytes(5) * 2000)
    client.flushed()

    for _ in range(reads):
        bed.slot.wait_until_readable()
        bed.slot.read()
        client.flushed()
    if reads < 3:
        bed.slot.wait_until_readable()
    bed.slot.hang_up()

    closed = client.closed()
    assert closed.reason is (EndReason.EOF if reads == 3 else EndReason.RESET)
    assert client.session.boundary == Exact(min(reads * QEMU_READ_BYTES, 10000))


@pytest.mark.parametrize("lockstep", [True, False], ids=["lockstep", "window"])
def test_reader_that_goes_at_any_moment_is_never_said_to_have_read_otherwise(
    bed: EdgeBed, lockstep: bool
) -> None:
    rng = random.Random(20260923)
    payload = rng.randbytes(300_000)
    for _ in range(RACES):
        client = bed.opened(lockstep=lockstep)
        heard = bytearray()
        reader = threading.Thread(
            target=_read_and_go, args=(bed.slot, rng.randrange(1, 60), heard, rng.random() < 0.5)
        )
        reader.start()
        client.send(payload[: rng.randrange(1, len(payload))])
        closed = client.closed()
        reader.join()

        assert payload.startswith(heard)
        if lockstep:
            assert closed.exact
        if closed.exact:
            assert closed.consumed == len(heard)
        else:
            assert closed.consumed <= len(heard)
            assert client.session.boundary == Unknown()
        client.session.forget()
        client.flushed()
        client.tear()


def _read_and_go(slot: Slot, reads: int, heard: bytearray, early: bool) -> None:
    """Read some times and close at once, the worst case; or wait until there is more, and go."""
    assert slot.peer is not None
    peer, slot.peer = slot.peer, None
    peer.settimeout(0.2)
    for _ in range(reads):
        try:
            heard += peer.recv(QEMU_READ_BYTES)
        except TimeoutError:
            break
    if not early:
        with contextlib.suppress(TimeoutError):
            peer.recv(1, socket.MSG_PEEK)
    peer.close()


def test_all_read_is_exact_in_a_large_window_too(bed: EdgeBed) -> None:
    client = bed.opened()
    client.send(b"x" * 200_000)
    client.flushed()
    bed.slot.read_until(200_000)
    bed.slot.hang_up()

    assert client.closed().reason is EndReason.EOF
    assert client.session.boundary == Exact(200_000)


def test_much_unread_in_a_large_window_is_no_exact_boundary(bed: EdgeBed) -> None:
    client = bed.opened()
    client.send(b"x" * 100_000)
    client.flushed()
    bed.slot.wait_until_readable()
    bed.slot.read()
    bed.slot.hang_up()

    assert client.closed().consumed == 0
    assert client.session.boundary == Unknown()


def test_lockstep_is_proven_only_when_the_large_window_is_read(bed: EdgeBed) -> None:
    client = bed.opened()
    client.send(b"x" * 100_000)
    client.flushed()
    bed.slot.wait_until_readable()
    client.session.lockstep(on=True)
    client.flushed()
    proven_before = client.session.lockstep_proven

    bed.slot.read_until(100_000)
    client.until(lambda: client.session.lockstep_proven)

    assert not proven_before
    assert client.session.consumed > QEMU_READ_BYTES


def test_half_closed_peer_can_still_read(bed: EdgeBed) -> None:
    client = bed.opened(lockstep=True)
    client.send(b"x" * 6000)
    client.flushed()
    assert bed.slot.peer is not None
    bed.slot.peer.shutdown(socket.SHUT_WR)
    bed.slot.wait_until_readable()
    bed.slot.read()
    client.consumed(4096)
    bed.slot.wait_until_readable()
    bed.slot.hang_up()

    closed = client.closed()

    assert (closed.consumed, closed.exact, closed.reason) == (4096, True, EndReason.RESET)


def test_closed_by_us_all_that_qemu_has_said_comes_and_the_boundary_is_exact(bed: EdgeBed) -> None:
    client = bed.opened(lockstep=True)
    client.send(b"x" * 5000)
    client.flushed()
    bed.slot.wait_until_readable()
    bed.slot.read()
    client.consumed(4096)
    bed.slot.say(b"q" * 70_000)
    client.session.close()

    closed = client.closed()

    assert closed.reason is EndReason.CLOSED_BY_US
    assert client.session.boundary == Exact(4096)
    assert client.heard == b"q" * 70_000
    bed.slot.read_until(5000)
    assert bed.slot.read() == b""


def test_what_the_source_left_goes_to_the_target_and_nothing_is_lost_or_doubled(
    bed: EdgeBed,
) -> None:
    payload = random.Random(7).randbytes(50_000)
    source = bed.opened(lockstep=True)
    source.send(payload)
    source.flushed()
    for _ in range(5):
        bed.slot.wait_until_readable()
        bed.slot.read()
        source.flushed()
    bed.slot.wait_until_readable()
    bed.slot.hang_up()
    source.closed()
    source.session.forget()
    source.flushed()

    target = bed.opened(lockstep=True)
    target.send(source.session.unconsumed())
    while len(bed.slot.heard) < len(payload):
        target.flushed()
        bed.slot.wait_until_readable()
        bed.slot.read()

    assert bytes(bed.slot.heard) == payload


def test_what_is_said_to_be_consumed_was_read_at_each_moment(bed: EdgeBed) -> None:
    client = bed.opened()
    client.send(b"x" * 150_000)
    client.flushed()

    said_early = False
    while len(bed.slot.heard) < 150_000:
        bed.slot.wait_until_readable()
        bed.slot.read()
        client.flushed()
        assert client.session.consumed <= len(bed.slot.heard)
        said_early |= 0 < client.session.consumed < len(bed.slot.heard)

    assert said_early
    client.consumed(150_000)
