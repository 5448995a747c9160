"""Runs commands in a VM for the tests: JSON lines on a virtio-serial port.

To the agent::

    {"id": 1, "argv": ["id", "-u"], "user": "user", "environment": {"HOME": "/home/user"}}
    {"id": 1, "signal": 15}

From the agent, any number of the first two, in order, then the last::

    {"id": 1, "out": "..."}     {"id": 1, "err": "..."}     {"id": 1, "status": 0}

Output is bytes, each written as the character of the same number. A signal goes to the command's
whole process group.
"""

from __future__ import annotations

import json
import os
import pwd
import selectors
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

_PATIENCE_S = 0.01
"""A port that nobody is connected to reads as an end of file, and cannot be waited for."""


class Agent:
    """Serves one port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._write_lock = threading.Lock()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def serve(self) -> None:
        """Do what is asked, until the VM ends."""
        rest = b""
        while True:
            data = os.read(self._port, 1 << 16)
            if not data:
                time.sleep(_PATIENCE_S)
                continue
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._obey(json.loads(line))

    def _obey(self, order: dict[str, Any]) -> None:
        number = order["id"]
        if "signal" in order:
            if number in self._processes:
                with suppress(ProcessLookupError):
                    os.killpg(self._processes[number].pid, order["signal"])
            return
        account = pwd.getpwnam(order["user"])
        try:
            process = subprocess.Popen(
                order["argv"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=os.environ | order["environment"],
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=os.getgrouplist(account.pw_name, account.pw_gid),
                start_new_session=True,
            )
        except OSError as exc:
            self._say({"id": number, "err": f"{exc}\n"})
            self._say({"id": number, "status": 127})
            return
        self._processes[number] = process
        threading.Thread(target=self._follow, args=(number, process), daemon=True).start()

    def _follow(self, number: int, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
            selector.register(process.stdout, selectors.EVENT_READ, "out")
            selector.register(process.stderr, selectors.EVENT_READ, "err")
            while selector.get_map():
                for key, _ in selector.select():
                    if data := os.read(key.fd, 1 << 14):
                        self._say({"id": number, key.data: data.decode("latin-1")})
                    else:
                        selector.unregister(key.fileobj)
        status = process.wait()
        del self._processes[number]
        self._say({"id": number, "status": status})

    def _say(self, fact: dict[str, Any]) -> None:
        line = json.dumps(fact).encode() + b"\n"
        with self._write_lock:
            while line:
                line = line[os.write(self._port, line) :]


def main() -> None:
    """Open the port, say on the console that the VM is ready, and serve."""
    port, console = sys.argv[1:]
    descriptor = os.open(port, os.O_RDWR | os.O_CLOEXEC)
    with open(console, "w") as file:
        file.write('@{"event":"ready"}\n')
    Agent(descriptor).serve()


if __name__ == "__main__":
    main()
