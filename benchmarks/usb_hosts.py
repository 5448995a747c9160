"""Many near ends in one process, for the agent: each serves its guest in a thread of its own."""

from __future__ import annotations

import argparse
import contextlib
import socket
import threading

from benchmarks.traffic import FROM_DEVICE, PACED
from benchmarks.usb_host import serve


def _serve(data: int, control: int) -> None:
    with (
        contextlib.suppress(ConnectionError),  # the other side ends first, at any point
        socket.socket(fileno=data) as guest,
        socket.socket(fileno=control) as telling,
    ):
        telling.sendall(b'{"event": "claimed", "drivers": []}\n')
        serve(guest, (FROM_DEVICE, PACED))


def main() -> None:
    """Serve all guests until the last one is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sockets", type=int, nargs="+", help="data and control of each, in turn")
    sockets = parser.parse_args().sockets
    threads = [
        threading.Thread(target=_serve, args=pair)
        for pair in zip(sockets[::2], sockets[1::2], strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
