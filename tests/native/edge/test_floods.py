"""Too much, too fast, or nonsense: the edge stays small, and alive."""

from __future__ import annotations

import os
import random
import secrets
import threading
from pathlib import Path
from typing import Final

import pytest

from kubectl_vmredir.protocol.edge import MessageType, RefusalCode, encode_open
from tests.support.edges import EdgeBed, Tunnel, compile_edge

pytestmark = pytest.mark.native

ROUNDS: Final = int(os.environ.get("VMREDIR_EDGE_FUZZ", "150"))
WINDOW: Final = 2 << 20
MAX_RESIDENT_KB: Final = 6144


def resident_kb(pid: int) -> int:
    line = next(
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    )
    return int(line.split()[1])


def test_flood_of_qemu_is_held_back_in_little_memory(tmp_path: Path) -> None:
    flood = random.Random(3).randbytes(8 << 20)
    with EdgeBed(compile_edge(tmp_path / "edge", sanitized=False)) as bed:
        client = bed.opened()
        (daemon,) = bed.daemons()
        client.tear()
        speaker = threading.Thread(target=bed.slot.say, args=(flood,))
        speaker.start()
        speaker.join(0.5)
        held_back = speaker.is_alive()
        resident = resident_kb(daemon)

        client.resume()
        client.until(lambda: len(client.heard) == len(flood))
        speaker.join()

        assert held_back
        assert resident < MAX_RESIDENT_KB
        assert resident_kb(daemon) < MAX_RESIDENT_KB
        assert bytes(client.heard) == flood


@pytest.mark.parametrize("lockstep", [True, False], ids=["lockstep", "window"])
def test_flood_of_ours_reaches_a_slow_reader_whole(bed: EdgeBed, lockstep: bool) -> None:
    flood = random.Random(4).randbytes(3 << 20)
    client = bed.opened(lockstep=lockstep)
    reader = threading.Thread(target=bed.slot.read_until, args=(len(flood),))
    client.send(flood)
    client.flushed()  # nobody reads yet, and a ping comes back all the same
    reader.start()

    client.consumed(len(flood))
    reader.join()

    offsets = [report.offset for report in client.reports()]
    assert offsets == sorted(offsets)
    assert bytes(bed.slot.heard) == flood


def test_more_than_the_window_breaks_the_protocol_and_not_the_session(bed: EdgeBed) -> None:
    client = bed.opened()
    client.send(b"x" * WINDOW)
    client.flushed()
    intruding = MessageType.DATA.to_bytes(4, "little") + (4).to_bytes(4, "little") + b"more"
    client.tunnel.write(intruding)

    assert client.refused().code is RefusalCode.BROKEN_PROTOCOL

    client.news.clear()
    client.resume()
    reader = threading.Thread(target=bed.slot.read_until, args=(WINDOW,))
    reader.start()
    client.consumed(WINDOW)
    reader.join()
    assert bytes(bed.slot.heard) == b"x" * WINDOW


def messages(rng: random.Random, token: bytes) -> bytes:
    """Return some messages that are almost right."""
    data = bytearray()
    for _ in range(rng.randrange(1, 8)):
        kind = rng.choice([*MessageType, rng.randrange(1 << 32)])
        size = rng.choice([0, 1, 8, 9, 25, 32, 4096, 65536, 65537, rng.randrange(1 << 32)])
        data += int(kind).to_bytes(4, "little") + size.to_bytes(4, "little")
        data += rng.randbytes(min(size, 65536) - rng.choice([0, 0, 0, min(size, 1)]))
    if rng.random() < 0.2:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    begin = encode_open(token, wait_s=0.01, linger_s=1, take=True, lockstep=rng.random() < 0.5)
    return begin + bytes(data) if rng.random() < 0.8 else bytes(data)


def test_nonsense_harms_nobody(bed: EdgeBed) -> None:
    rng = random.Random(20261124)
    anchor = bed.tunnel()  # keeps the daemon alive
    anchor.write(encode_open(secrets.token_bytes(16), wait_s=1, linger_s=60))
    anchor.read()
    (daemon,) = bed.daemons()
    for _ in range(ROUNDS):
        tunnel = Tunnel(bed.command)
        nonsense = messages(rng, secrets.token_bytes(16))
        while nonsense and tunnel.process.poll() is None:
            try:
                written = tunnel.write(nonsense[: rng.randrange(1, 70_000)])
            except BrokenPipeError:
                break
            nonsense = nonsense[written:]
        tunnel.tear()
        assert tunnel.process.returncode == 0

    bed.client(take=True, wait_s=0.01).refused()  # it still speaks

    assert bed.daemons() == [daemon]


def test_messages_may_come_byte_by_byte(bed: EdgeBed) -> None:
    client = bed.client()
    for byte in client.session.output():
        assert client.tunnel.write(bytes([byte])) == 1
    bed.slot.accept()

    client.open()
