"""The far end: a process that is server and usb-guest in one, and holds the stopwatch.

It serves one connection over TLS, as plain bytes or as the websocket of virt-handler, and asks
for transfers: told ``{"load": ..., "seconds": ...}`` on stdin it does so for a while and answers
with a :class:`Run`. It looks at nothing that it receives, it only counts.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import socket
import ssl
import statistics
import sys
from time import perf_counter
from typing import TYPE_CHECKING, Final

from benchmarks.samples import Run
from benchmarks.traffic import LOADS, Ring, hello, introduction
from benchmarks.wires import Plain, Websocket

if TYPE_CHECKING:
    from benchmarks.traffic import Load
    from benchmarks.wires import Wire

_READ_BYTES: Final = 256 << 10
_GREETING: Final = hello("benchmark usb-guest")


class FarEnd:
    """A usb-guest on one connection.

    Args:
        connection: The accepted connection.
        wire: How it is spoken on.
    """

    def __init__(self, connection: socket.socket, wire: Wire) -> None:
        self._connection = connection
        self._wire = wire
        self._buffer = memoryview(bytearray(_READ_BYTES))
        self._received_at = 0.0
        self._rings = {
            load: Ring([wire.wrap(request) for request in load.requests]) for load in LOADS
        }

    def begin(self) -> None:
        """Accept the client, and take the device that it plugs in."""
        head = b""
        while (answer := self._wire.accept(head)) is None:
            head += self._connection.recv(_READ_BYTES)
        self._connection.sendall(answer + self._wire.wrap(_GREETING))
        awaited = len(_GREETING) + len(introduction())
        while awaited > 0:
            awaited -= self._receive()
        assert awaited == 0, "the usb-host says more than it should"

    def run(self, load: Load, seconds: float) -> Run:
        """Keep transfers in flight for so long, and wait for the last answers."""
        ring, size = self._rings[load], len(load.answers[0])
        round_trips_s = []
        received = answered = 0
        asked = load.in_flight
        cpu_s, begun = _cpu_s(), perf_counter()
        self._connection.sendall(ring.take(asked))
        sent_at = begun
        while answered < asked:
            received += self._receive()
            fresh = received // size - answered
            if not fresh:
                continue
            answered += fresh
            round_trips_s.append(self._received_at - sent_at)
            sent_at = perf_counter()
            if sent_at - begun < seconds:
                self._connection.sendall(ring.take(fresh))
                asked += fresh
        assert received == asked * size, "other answers than were asked for"
        round_trip_s, *_ = statistics.quantiles(round_trips_s, n=4)
        return Run(answered, self._received_at - begun, round_trip_s, _cpu_s() - cpu_s)

    def _receive(self) -> int:
        size = self._connection.recv_into(self._buffer)
        self._received_at = perf_counter()  # what is done with it is not the client's time
        if not size:
            raise ConnectionError("the client is gone")
        return self._wire.count(self._buffer[:size])


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Serve one connection, whose port is the first line on stdout, until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", required=True, help="PEM file with key")
    parser.add_argument("--websocket", action="store_true")
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        accepted, _ = listener.accept()
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(accepted, server_side=True) as connection:
        far_end = FarEnd(connection, Websocket() if options.websocket else Plain())
        far_end.begin()
        print("ready", flush=True)
        loads = {load.name: load for load in LOADS}
        for line in sys.stdin:
            order = json.loads(line)
            run = far_end.run(loads[order["load"]], order["seconds"])
            print(json.dumps(dataclasses.asdict(run)), flush=True)


if __name__ == "__main__":
    main()
