"""What runs in the workstation VM: this file, as text, under ``python3 -c``. Prints JSON.

``processes`` copies what the kernel counts for every process. ``loop`` times the reference loop,
which is run on this machine as well: a byte goes through a socket and is waited for, as in an
event loop that is woken up.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

_ROUNDS = 20
_BYTES_A_ROUND = 1000


def processes() -> dict[str, Any]:
    """Return what /proc says of every process, as it is written there (proc_pid_stat(5))."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            found.append(
                {
                    "stat": (folder / "stat").read_text(errors="replace"),
                    "command": (folder / "cmdline").read_text(errors="replace").split("\0")[:-1],
                    "tasks": [task.read_text() for task in folder.glob("task/*/schedstat")],
                }
            )
    return {
        "clock_s": time.monotonic(),
        "ticks_per_s": os.sysconf("SC_CLK_TCK"),
        "own_pid": os.getpid(),
        "processes": found,
    }


def loop_s() -> float:
    """Return the CPU time of the reference loop: of the fastest round, as others can only add."""
    near, far = socket.socketpair()
    with near, far:
        poll = select.poll()
        poll.register(far, select.POLLIN)
        rounds = []
        for _ in range(_ROUNDS):
            begin_s = time.thread_time()
            for _ in range(_BYTES_A_ROUND):
                near.send(b"x")
                poll.poll()
                far.recv(1)
            rounds.append(time.thread_time() - begin_s)
    return min(rounds)


if __name__ == "__main__":
    json.dump(processes() if sys.argv[1] == "processes" else loop_s(), sys.stdout)
