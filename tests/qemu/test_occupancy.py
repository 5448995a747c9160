"""What a real QEMU says of its slots, as libvirt starts it: with sockets that listen already."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kubectl_vmredir.kubevirt.occupancy import slots_taken
from kubectl_vmredir.lab.guests import sockets

pytestmark = pytest.mark.qemu

LIMIT_S = 20


class Qemu:
    """A QEMU without a guest, whose slots are in a folder."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self.ask("qmp_capabilities")

    def ask(self, command: str) -> str:
        """Return the line that answers a command of its monitor."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"execute": command}) + "\n")
        self._process.stdin.flush()
        while '"return"' not in (line := self._process.stdout.readline()):
            assert line, "QEMU has ended"
        return line

    def client(self, slot: int) -> socket.socket:
        """Return a client of a slot, which QEMU has greeted."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT_S)
        client.connect(str(self._folder / sockets.SLOTS[slot]))
        assert client.recv(1), "QEMU has closed it"
        return client


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Qemu]:
    with ExitStack() as stack:
        devices = ["-device", "qemu-xhci"]
        inherited = []
        for slot, name in enumerate(sockets.SLOTS):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(tmp_path / name))
            listener.listen(1)
            inherited.append(listener.fileno())
            chardev = f"socket,id=charredir{slot},fd={listener.fileno()},server=on,wait=off"
            devices += ["-chardev", chardev, "-device", f"usb-redir,chardev=charredir{slot}"]
        process = stack.enter_context(
            subprocess.Popen(
                [
                    *("qemu-system-x86_64", "-accel", "tcg", "-m", "16", "-nodefaults"),
                    *("-display", "none", "-qmp", "stdio", *devices),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=inherited,
            )
        )
        stack.callback(process.kill)
        yield Qemu(process, tmp_path)


def test_slot_is_taken_while_it_has_a_client(qemu: Qemu) -> None:
    before = qemu.ask("query-chardev")
    with qemu.client(1), qemu.client(3):
        meanwhile = qemu.ask("query-chardev")

    assert slots_taken(before) == (False, False, False, False)
    assert slots_taken(meanwhile) == (False, True, False, True)
