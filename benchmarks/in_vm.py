"""What runs in the workstation VM: this file, as text, under ``python3 -c``. Prints JSON.

``processes`` copies what the kernel counts for every process. ``loop`` times the reference loop,
which is run on this machine as well: a byte goes through a socket and is waited for, as in an
event loop that is woken up. ``until PATH COMMAND...`` runs a command, and tells how long after its
start the symbolic link at the path was made.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROUNDS = 20
_BYTES_A_ROUND = 1000
_GLANCE_S = 0.1


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


def until_s(path: Path, command: Sequence[str]) -> float:
    """Return the time from the start of a command until a path was made, by the path's own time.

    Nobody looks meanwhile: that would take the only CPU of the VM from those who are at work.
    """
    begin_s = time.time()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    while not path.is_symlink():
        time.sleep(_GLANCE_S)
    return path.lstat().st_mtime - begin_s


def bare_s() -> float:
    """Return how long Python takes to start and to end."""
    begin_s = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.monotonic() - begin_s


def main(what: str, *arguments: str) -> object:
    """Return what is asked for."""
    match what:
        case "processes":
            return processes()
        case "loop":
            return loop_s()
        case "until":
            path, *command = arguments
            return {"took_s": until_s(Path(path), command), "bare_s": bare_s()}
        case _:
            raise ValueError(what)


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:]), sys.stdout)
