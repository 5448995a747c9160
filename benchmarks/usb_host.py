"""The near end: a process that answers bulk transfers as a usb-host does, with ready bytes.

It has the two sockets of a usb-host; or, to measure the far end alone, it connects to that
by itself, and there is no client in between.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING, Final

from benchmarks.traffic import LOADS, hello, introduction
from kubectl_vmredir.protocol.constants import ALL_CAPS, PacketType, Side
from kubectl_vmredir.protocol.spans import SpanTracker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.traffic import Load
    from kubectl_vmredir.protocol.spans import Span

_READ_BYTES: Final = 256 << 10


def serve(guest: socket.socket, loads: Sequence[Load] = LOADS) -> None:
    """Greet a guest and answer what it asks for, until it is gone."""
    answers = _answers(loads)
    asked: deque[Span] = deque()
    tracker = SpanTracker(Side.GUEST, own_caps=ALL_CAPS)
    buffer = memoryview(bytearray(_READ_BYTES))
    guest.sendall(hello("benchmark usb-host"))
    while size := guest.recv_into(buffer):
        asked += tracker.feed(buffer[:size])
        while asked and asked[0].end <= tracker.offset:
            span = asked.popleft()
            if span.type is PacketType.HELLO:
                guest.sendall(introduction())
            elif span.type is PacketType.BULK_PACKET:
                guest.sendall(answers[span.id, span.head])
            # What a client undoes at its end needs no answer: nobody waits for it.


def _answers(loads: Sequence[Load]) -> Mapping[tuple[int, bytes], bytes]:
    """Return the answers to all requests that there can be, by id and head of the request."""
    answers = {}
    for load in loads:
        tracker = SpanTracker(Side.GUEST, own_caps=ALL_CAPS)
        tracker.feed(hello(""))
        spans = tracker.feed(b"".join(load.requests))
        for span, answer in zip(spans, load.answers, strict=True):
            answers[span.id, span.head] = answer
    return answers


def main() -> None:
    """Serve one guest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=int, help="file descriptor of the data socket")
    parser.add_argument("--control", type=int, help="file descriptor of the control socket")
    parser.add_argument("--port", type=int, help="port of the far end, to speak to it directly")
    parser.add_argument("--ca", help="certificates that the far end is checked with")
    options = parser.parse_args()
    with contextlib.suppress(ConnectionError):  # the other side ends first, at any point
        run(options)


def run(options: argparse.Namespace) -> None:
    """Serve one guest on the sockets that were passed on, or on a connection to the far end."""
    if options.port is not None:
        context = ssl.create_default_context(cafile=options.ca)
        with socket.create_connection(("127.0.0.1", options.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(connection, server_hostname="127.0.0.1") as guest:
                serve(guest)
    else:
        with (
            socket.socket(fileno=options.data) as guest,
            socket.socket(fileno=options.control) as control,
        ):
            control.sendall(b'{"event": "claimed", "drivers": []}\n')
            serve(guest)


if __name__ == "__main__":
    main()
