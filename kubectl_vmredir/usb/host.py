"""The usb-host process: one device, one thread, one loop.

It opens no device. What it needs was opened by its parent (`process.py`) and inherited: the data
and control sockets (docs/architecture.md), the device node, and the locked file of the journal. It
ends, and gives the device back, when one of the sockets is closed, on ``{"request": "stop"}``, on
SIGTERM, and when the device is lost. What it cannot say any more, because a call into the kernel
hangs or it is killed, its parent says.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import DeviceLost, UsbError, VmRedirError
from kubectl_vmredir.model import to_json
from kubectl_vmredir.usb.library import RedirHost
from kubectl_vmredir.usb.noting import note
from kubectl_vmredir.usb.rescue import put_back
from kubectl_vmredir.usb.safety import needed_after_all

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kubectl_vmredir.model import JsonValue
    from kubectl_vmredir.usb.journal import Claim, Entry
    from kubectl_vmredir.usb.tree import Tree

READ_BYTES: Final = 256 * 1024
SEND_BUFFER_BYTES: Final = 1 << 20
"""Asked of the kernel for the data socket, which may give less."""

OUTPUT_BYTES: Final = 1 << 20
"""With so much unsent, nothing more is asked of the device."""
OUTPUT_LIMIT_BYTES: Final = 32 << 20
"""A device may send by itself, and libusbredirhost cannot be told to wait: with so much unsent the
session ends. It is twice what a VM may have asked for at once (docs/security.md)."""

LAST_WORDS_S: Final = 1.0
"""How long the other side may take to read what is left when the device is lost."""

REQUEST_BYTES: Final = 4096
"""Longest line that is taken on the control socket."""

UNPLUGGED: Final = "it was unplugged"

_OPEN_FILES: Final = 64
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_BROKEN: Final = select.POLLERR | select.POLLHUP


def serve(
    data: socket.socket,
    control: socket.socket,
    node: int,
    entry: Entry,
    *,
    tree: Tree,
    limit_s: int,
) -> None:
    """Redirect a device, until it is to be given back or is lost.

    Args:
        data: usbredir bytes.
        control: JSON lines.
        node: Descriptor of the device node.
        entry: Of the journal, with the claim in it; closed when the device is given back.
        tree: Where sysfs and /proc are.
        limit_s: How long one round of the loop may take. The calls in it go into the kernel, where
            a device or its driver can hang: then SIGALRM ends the process.
    """
    harden()
    stop = _stop_descriptor()
    data.setblocking(False)
    control.setblocking(False)
    signal.alarm(limit_s)
    claim = entry.sign()
    taken = _take(node, claim, tree)
    if isinstance(taken, RedirHost):
        _tell(control, {"event": "claimed", "drivers": list(claim.drivers) if claim else []})
        _Session(taken, data, control, node, stop, limit_s).run()
    else:
        _tell(control, taken)
    signal.alarm(limit_s)
    _give_back(node, entry)
    # The parent has these sockets as well, so to close them here would not end them.
    for end in (data, control):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _give_back(node: int, entry: Entry) -> None:
    """Clear the claim, once its drivers are back; what fails stays for the next try."""
    with entry:
        claim = entry.read()
        if claim is None or put_back(node, claim.driven, claim.configuration):
            entry.clear()


def _take(node: int, claim: Claim | None, tree: Tree) -> RedirHost | Mapping[str, JsonValue]:
    """Return the device, claimed, or the event that says why not."""
    # It may have become needed here since it was found safe to take it.
    needed = None if claim is None else needed_after_all(tree, _folder(claim, tree))
    try:
        if needed is None:
            return RedirHost(node)
        refusal: Mapping[str, JsonValue] = {"event": "unsafe", "finding": to_json(needed)}
    except UsbError as error:
        refusal = {"event": "error", "message": str(error)}
    return {"event": "lost", "reason": UNPLUGGED} if _is_unplugged(node) else refusal


def _folder(claim: Claim, tree: Tree) -> Path:
    return tree.real(f"sys/bus/usb/devices/{claim.port_path}")


def _is_unplugged(node: int) -> bool:
    poll = select.poll()
    poll.register(node, 0)
    return any(events & _BROKEN for _, events in poll.poll(0))


def harden() -> None:
    """Let go of what is not needed: a bug in a library must not become more than that."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_NO_NEW_PRIVS, 1), (_PR_SET_DUMPABLE, 0)):
        if libc.prctl(option, value, 0, 0, 0):
            note(f"prctl({option}): {os.strerror(ctypes.get_errno())}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    os.set_blocking(2, False)  # a parent that does not read must not stop us
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then asks us


def _stop_descriptor() -> int:
    """Return a descriptor that becomes readable at SIGTERM, also if a call blocks just then."""
    stop, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda *_: None)
    return stop


def _tell(control: socket.socket, event: Mapping[str, JsonValue]) -> None:
    # A session has two or three events to tell, which fit in the socket's buffer.
    with contextlib.suppress(OSError):
        control.send(json.dumps(event).encode() + b"\n")


class _Session:
    """The loop around a device that is claimed.

    A call that hangs does not come back to Python, so what ends it is SIGALRM's default action:
    the alarm is set while something is done, and not while something is waited for.
    """

    def __init__(
        self,
        host: RedirHost,
        data: socket.socket,
        control: socket.socket,
        node: int,
        stop: int,
        limit_s: int,
    ) -> None:
        self._host = host
        self._data = data
        self._control = control
        self._node = node
        self._stop = stop
        self._limit_s = limit_s
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._line = b""
        self._poll = select.poll()
        self._poll.register(stop, select.POLLIN)
        self._poll.register(control, select.POLLIN)
        self._data_events = -1
        self._usb: Mapping[int, int] = {}
        data.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def run(self) -> None:
        """Serve the device until the end, and release it."""
        try:
            self._serve()
        except DeviceLost as lost:
            self._end({"event": "lost", "reason": str(lost)})
        except VmRedirError as error:
            self._end({"event": "error", "message": str(error)})
        else:
            self._end(None)

    def _serve(self) -> None:
        """Return when the device is to be given back.

        Raises:
            VmRedirError: If the session cannot go on.
        """
        host, data, control = self._host, self._data.fileno(), self._control.fileno()
        while True:
            self._update_poll()
            signal.alarm(0)
            ready = dict(self._poll.poll())
            signal.alarm(self._limit_s)
            if self._stop in ready or (control in ready and self._is_told_to_stop()):
                return
            try:
                if ready.get(data, 0) & ~select.POLLOUT and not self._receive():
                    return
                if not ready.keys().isdisjoint(self._usb):
                    host.handle_events()
                host.send(self._data)
            except ConnectionError:
                return
            if ready.get(self._node, 0) & _BROKEN:
                raise DeviceLost(UNPLUGGED)
            if host.output.size > OUTPUT_LIMIT_BYTES:
                raise UsbError("the VM does not take what the device sends")

    def _update_poll(self) -> None:
        if self._host.descriptors_changed:
            # The node itself is always among them, to see that the device is unplugged.
            usb = {self._node: 0, **self._host.descriptors()}
            for descriptor in self._usb.keys() - usb.keys():
                self._poll.unregister(descriptor)
            for descriptor, events in usb.items():
                self._poll.register(descriptor, events)
            self._usb = usb
        output = self._host.output
        events = (select.POLLIN if output.size < OUTPUT_BYTES else 0) | (
            select.POLLOUT if output else 0
        )
        if events != self._data_events:
            self._poll.register(self._data, events)
            self._data_events = events

    def _receive(self) -> bool:
        """Hand on what the guest sent; return whether the socket is still open."""
        try:
            count = self._data.recv_into(self._buffer)
        except BlockingIOError:
            return True
        if count:
            self._host.feed(self._buffer[:count])
        return count > 0

    def _is_told_to_stop(self) -> bool:
        try:
            data = self._control.recv(REQUEST_BYTES)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        *lines, self._line = (self._line + data).split(b"\n")
        return not data or len(self._line) > REQUEST_BYTES or any(map(_is_stop, lines))

    def _end(self, event: Mapping[str, JsonValue] | None) -> None:
        """Say why it ends, if there is a reason, and release the device."""
        if event is not None:
            _tell(self._control, event)
        signal.alarm(self._limit_s)
        self._host.release()
        if event is not None:
            self._send_last_words()
        self._host.close()

    def _send_last_words(self) -> None:
        """Let the guest know that it has the device no more."""
        deadline = time.monotonic() + LAST_WORDS_S
        poll = select.poll()
        poll.register(self._data, select.POLLOUT)
        with contextlib.suppress(ConnectionError):
            self._host.send(self._data)
            while self._host.output and (left_s := deadline - time.monotonic()) > 0:
                poll.poll(left_s * 1000)
                self._host.send(self._data)


def _is_stop(line: bytes) -> bool:
    try:
        request = json.loads(line)
    except ValueError:
        return False
    return isinstance(request, dict) and request.get("request") == "stop"
