"""Many far ends in one process: the guests of the agent's redirections, and their stopwatch.

Told ``{"seconds": ..., "guests": n}`` on stdin so many of them take what their devices give, and
it answers with the bytes a second of each; told ``{"seconds": ..., "hz": ...}`` the first one asks
for a short packet so many times a second, and it answers with the delay of each, in seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import select
import socket
import ssl
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING, Final

from benchmarks.far_end import FarEnd
from benchmarks.traffic import FROM_DEVICE, PACED, Ring
from benchmarks.wires import Websocket

if TYPE_CHECKING:
    from collections.abc import Sequence

_REST_S: Final = 1.0
"""How often it is seen whether a ping has come, while one more connection is waited for."""
_LATE_S: Final = 10.0
"""An answer that takes longer will not come."""


class PacedGuest(FarEnd):
    """A usb-guest that can ask by the clock as well, and answers pings.

    Args:
        connection: The accepted connection.
    """

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._websocket = Websocket()
        self._tls = connection
        super().__init__(connection, self._websocket)

    def fileno(self) -> int:
        """Return what can be waited for."""
        return self._tls.fileno()

    def rest(self) -> None:
        """Answer the pings that have come, if any, while nothing is asked for."""
        while self._readable():
            assert self._receive() == 0, "more answers than were asked for"

    def pace(self, hz: float, seconds: float) -> Sequence[float]:
        """Ask for short packets at that rate, and return how long each took, in seconds.

        Who waits for an answer before it asks again would ask less often while answers are slow,
        and so not see how slow they are.
        """
        ring = Ring([self._wire.wrap(request) for request in PACED.requests])
        size, received = len(PACED.answers[0]), 0
        sent_at: deque[float] = deque()
        delays_s: list[float] = []
        begun = due = perf_counter()
        while True:
            now = perf_counter()
            asking = now < begun + seconds
            if asking and now >= due and len(sent_at) < PACED.in_flight:
                sent_at.append(now)
                self._connection.sendall(ring.take(1))
                due += 1 / hz
                continue
            if not asking and not sent_at:
                return delays_s
            full = len(sent_at) == PACED.in_flight
            self._wait(max(0.0, due - now) if asking and not full else _LATE_S)
            if self._readable():
                received += self._receive()
            while received >= size:
                received -= size
                delays_s.append(self._received_at - sent_at.popleft())

    def _receive(self) -> int:
        received = super()._receive()
        while self._websocket.pongs:
            self._tls.sendall(self._websocket.pongs.pop(0))
        return received

    def _wait(self, seconds: float) -> None:
        if not self._tls.pending():
            select.select([self], [], [], seconds)

    def _readable(self) -> bool:
        return self._tls.pending() > 0 or bool(select.select([self], [], [], 0)[0])


class Lines:
    """Lines of stdin that can be waited for together with guests."""

    def __init__(self) -> None:
        self._rest = b""

    def next(self, guests: Sequence[PacedGuest]) -> bytes:
        """Return the next line, without its end, while these guests rest; nothing at the end."""
        while b"\n" not in self._rest:
            readable, _, _ = select.select([sys.stdin, *guests], [], [])
            for each in readable:
                if isinstance(each, PacedGuest):
                    each.rest()
                elif not (data := os.read(sys.stdin.fileno(), 1 << 16)):
                    return b""
                else:
                    self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def accept(
    listener: socket.socket, context: ssl.SSLContext, guests: Sequence[PacedGuest]
) -> PacedGuest:
    """Serve one more connection, while the guests of the others rest."""
    ready = False
    while not ready:
        for guest in guests:
            guest.rest()
        ready = bool(select.select([listener], [], [], _REST_S)[0])
    accepted, _ = listener.accept()
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    guest = PacedGuest(context.wrap_socket(accepted, server_side=True))
    guest.begin()
    return guest


def bytes_per_s(guest: FarEnd, seconds: float) -> float:
    """Take what a device gives for so long, and return how much that was a second."""
    run = guest.run(FROM_DEVICE, seconds)
    return run.transfers * FROM_DEVICE.size / run.seconds


def main() -> None:
    """Serve as many connections as are asked for, until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", required=True, help="PEM file with key")
    parser.add_argument("--guests", type=int, required=True)
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate)
    with (
        socket.create_server(("127.0.0.1", 0), backlog=options.guests) as listener,
        ThreadPoolExecutor(options.guests) as threads,
    ):
        print(listener.getsockname()[1], flush=True)
        guests: list[PacedGuest] = []
        while len(guests) < options.guests:
            guests.append(accept(listener, context, guests))
        print("ready", flush=True)
        lines = Lines()
        while line := lines.next(guests):
            match json.loads(line):
                case {"hz": hz, "seconds": seconds}:
                    answer = guests[0].pace(hz, seconds)
                case {"guests": count, "seconds": seconds}:
                    chosen = guests[:count]
                    answer = list(threads.map(bytes_per_s, chosen, itertools.repeat(seconds)))
                case order:
                    raise ValueError(order)
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
