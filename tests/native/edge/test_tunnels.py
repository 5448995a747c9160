"""Tunnels are torn and come again; the session with QEMU goes on, to the byte."""

from __future__ import annotations

import os
import random
import secrets
import select
import signal
import threading

import pytest

from kubectl_vmredir.model import Exact
from kubectl_vmredir.protocol.edge import (
    EdgeMessage,
    EdgeParser,
    EdgePhase,
    Greeting,
    RefusalCode,
    Refused,
    encode_close,
    encode_open,
    encode_resume,
)
from tests.support.edges import EdgeBed, Tunnel

pytestmark = pytest.mark.native


def answers(tunnel: Tunnel, count: int) -> list[EdgeMessage]:
    parser = EdgeParser()
    found: list[EdgeMessage] = []
    while len(found) < count:
        assert select.select([tunnel.reader], [], [], 10)[0]
        found += parser.feed(tunnel.read())
    return found


def refusal(tunnel: Tunnel) -> RefusalCode:
    """Return why the edge turns a tunnel away, which it ends then."""
    found = answers(tunnel, 2)[1]
    assert isinstance(found, Refused)
    assert select.select([tunnel.reader], [], [], 10)[0]
    assert tunnel.read() == b""
    return found.code


@pytest.mark.parametrize("lockstep", [True, False], ids=["lockstep", "window"])
def test_torn_tunnels_lose_and_repeat_nothing(bed: EdgeBed, lockstep: bool) -> None:
    rng = random.Random(11)
    to_qemu, from_qemu = rng.randbytes(1_500_000), rng.randbytes(1_500_000)
    client = bed.opened(lockstep=lockstep)
    speaker = threading.Thread(target=bed.slot.say, args=(from_qemu,))
    reader = threading.Thread(target=bed.slot.read_until, args=(len(to_qemu),))
    speaker.start()
    reader.start()
    client.send(to_qemu)

    tears = 0
    while client.session.consumed < len(to_qemu) or len(client.heard) < len(from_qemu):
        client.step(1)
        if rng.random() < 0.25:
            if rng.random() < 0.5:
                client.tunnel.process.send_signal(signal.SIGKILL)
            client.resume()
            tears += 1
    speaker.join()
    reader.join()

    assert tears > 5
    assert bytes(bed.slot.heard) == to_qemu
    assert bytes(client.heard) == from_qemu
    assert len(bed.daemons()) == 1


def test_end_that_came_while_there_was_no_tunnel_is_told_after_resume(bed: EdgeBed) -> None:
    client = bed.opened(lockstep=True)
    client.send(b"x" * 6000)
    client.flushed()
    client.tear()
    bed.slot.wait_until_readable()
    bed.slot.read()
    bed.slot.say(b"last words")
    bed.slot.wait_until_readable()
    bed.slot.hang_up()

    client.resume()
    closed = client.closed()

    assert (closed.consumed, closed.exact) == (4096, True)
    assert client.session.boundary == Exact(4096)
    assert client.heard == b"last words"


def test_close_that_was_lost_with_its_tunnel_is_said_again(bed: EdgeBed) -> None:
    client = bed.opened()
    client.session.close()

    client.resume()

    assert client.closed().exact


def test_lockstep_that_was_asked_for_without_a_tunnel_is_proven_after_resume(bed: EdgeBed) -> None:
    client = bed.opened()
    client.tear()
    client.session.lockstep(on=True)

    client.resume()

    client.until(lambda: client.session.lockstep_proven)


def test_newer_tunnel_of_the_session_takes_the_place_of_one_that_only_looks_alive(
    bed: EdgeBed,
) -> None:
    client = bed.opened()
    old = client.tunnel
    client.session.tunnel_opened()
    client.tunnel = bed.tunnel()
    client.send(b"over the new one")
    client.flushed()
    bed.slot.read_until(16)

    assert old.process.wait(10) == 0
    old.tear()
    assert bed.slot.heard == b"over the new one"


def test_wrong_token_is_turned_away_and_disturbs_nobody(bed: EdgeBed) -> None:
    client = bed.opened()
    intruder = bed.tunnel()
    intruder.write(encode_resume(secrets.token_bytes(16), sent=0, received=0))

    assert refusal(intruder) is RefusalCode.SESSION_UNKNOWN
    client.flushed()


@pytest.mark.parametrize(("sent", "received"), [(4, 4), (5, 5), (5, 1)])
def test_offsets_that_cannot_be_are_turned_away(bed: EdgeBed, sent: int, received: int) -> None:
    token = secrets.token_bytes(16)
    first = bed.tunnel()
    first.write(encode_open(token, wait_s=5, linger_s=30))
    bed.slot.accept()
    bed.slot.say(b"qemu")
    answers(first, 4)
    first.write(bytes.fromhex("0700000005000000") + b"bytes")  # DATA
    first.write(bytes.fromhex("0900000008000000 0200000000000000"))  # ACK 2
    bed.slot.read_until(5)

    second = bed.tunnel()
    second.write(encode_resume(token, sent=sent, received=received))

    assert refusal(second) is RefusalCode.SESSION_OFFSETS


def test_slot_that_is_held_is_given_to_who_takes_it_only(bed: EdgeBed) -> None:
    holder = bed.opened()
    other = bed.tunnel()
    other.write(encode_open(secrets.token_bytes(16), wait_s=1, linger_s=1))
    assert refusal(other) is RefusalCode.SESSION_HELD
    holder.flushed()

    taker = bed.client(take=True)
    taker.ask_to_open()
    taker.until(lambda: taker.session.queued == 0 and taker.news == [])
    assert bed.slot.read() == b""
    bed.slot.hang_up()
    bed.slot.accept()
    taker.open()

    assert holder.tunnel.process.wait(10) == 0


def test_greeting_tells_what_the_edge_holds(bed: EdgeBed) -> None:
    bed.opened()
    visitor = bed.tunnel()

    (greeting,) = answers(visitor, 1)

    assert greeting == Greeting(4096, 2 << 20, 64 << 10, EdgePhase.OPEN)


def test_many_that_start_at_once_get_the_same_daemon(bed: EdgeBed) -> None:
    tunnels = [bed.tunnel() for _ in range(3)]

    client = bed.opened()

    client.flushed()
    for tunnel in tunnels:
        tunnel.read()  # it has got as far as the daemon
    assert len(bed.daemons()) == 1


def test_daemon_that_was_killed_is_replaced(bed: EdgeBed) -> None:
    client = bed.opened()
    (daemon,) = bed.daemons()
    os.kill(daemon, signal.SIGKILL)
    assert bed.slot.read() == b""
    bed.slot.hang_up()
    assert client.tunnel.process.wait(10) == 0

    client.resume()
    assert client.refused().code is RefusalCode.SESSION_UNKNOWN
    bed.opened()


def test_session_that_is_forgotten_leaves_no_process_and_no_socket(impatient_bed: EdgeBed) -> None:
    client = impatient_bed.opened()
    client.session.close()
    client.closed()
    client.session.forget()
    client.flushed()
    client.tear()

    impatient_bed.until_ended()

    assert not impatient_bed.socket.exists()


def test_session_without_a_tunnel_is_held_as_long_as_was_said(impatient_bed: EdgeBed) -> None:
    client = impatient_bed.opened(linger_s=1)
    client.tear()

    assert impatient_bed.slot.read() == b""  # QEMU sees the end then

    impatient_bed.until_ended()
    assert not impatient_bed.socket.exists()


def test_tunnel_without_a_sign_of_life_is_dropped_and_the_session_kept(
    impatient_bed: EdgeBed,
) -> None:
    client = impatient_bed.opened()

    assert client.tunnel.process.wait(10) == 0

    client.resume()
    client.send(b"still there")
    client.flushed()
    impatient_bed.slot.read_until(11)


def test_who_connects_and_says_nothing_is_dropped(impatient_bed: EdgeBed) -> None:
    visitor = impatient_bed.tunnel()

    assert visitor.process.wait(10) == 0


def test_first_message_that_is_another_is_turned_away(bed: EdgeBed) -> None:
    visitor = bed.tunnel()
    visitor.write(encode_close())

    assert refusal(visitor) is RefusalCode.BROKEN_PROTOCOL


def test_daemon_keeps_nothing_of_the_stream_that_started_it(bed: EdgeBed) -> None:
    client = bed.opened()

    client.tear()  # would wait for ever on an open standard stream

    (daemon,) = bed.daemons()
    held = {os.readlink(f"/proc/{daemon}/fd/{fd}") for fd in (0, 1, 2)}
    assert held == {"/dev/null"}
    assert os.getsid(daemon) != os.getsid(0)


def test_slot_reads_what_it_is_sent_while_there_is_no_tunnel(bed: EdgeBed) -> None:
    client = bed.opened(lockstep=True)
    client.send(b"x" * 40_000)
    client.flushed()
    client.tear()

    bed.slot.read_until(40_000)

    client.resume()
    client.consumed(40_000)


def test_usage_is_said_when_the_paths_are_not_absolute(edge: object) -> None:
    slot_without_folder = Tunnel([str(edge), "edge.sock", "slot"])

    assert slot_without_folder.process.wait(10) == 1
    slot_without_folder.tear()
