"""The simulated VM: guest, USB redirection channels and console, and what moves of them.

How QEMU loses a VM is part of it (docs/facts/qemu.md). Where it is chance
whether QEMU survives, this VM does not.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.chardev import Chardev
from kubectl_vmredir.lab.guests.kernel import Kernel
from kubectl_vmredir.lab.guests.redirect import RedirDevice
from kubectl_vmredir.model import SLOT_COUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from kubectl_vmredir.lab.guests.transfers import Outcome

logger = logging.getLogger(__name__)

STDERR: Final = "qemu.log"
"""What QEMU would write to stderr."""

_CONSOLE_BYTES: Final = 1 << 16
"""What waits for a slow client of the console; more is dropped, as a real UART does it."""

_NOTICED_AFTER_S: Final = 0.4
"""How long a guest takes to tear a device down that went away. Measured: a migration up to
0.23 s after that lost VMs, one after 0.40 s did not."""
_TEARDOWN_S: Final = 0.9
"""How long it takes on the target. Measured: a standby for 0.5 s was enough, 0 s was not; the
rule of safety says 1 s."""


class Console:
    """The serial console: a socket, and a file with all that was ever printed."""

    def __init__(self, folder: Path) -> None:
        self._log = (folder / sockets.CONSOLE_LOG).open("ab", buffering=0)
        self._chardev = Chardev(folder, sockets.CONSOLE, self)
        self._chardev.set_reading(True)
        self._outbox = bytearray()

    def write(self, line: str) -> None:
        """Print a line."""
        data = line.encode("ascii", errors="replace") + b"\r\n"
        self._log.write(data)
        if self._chardev.connected and len(self._outbox) < _CONSOLE_BYTES:
            self._outbox += data
            self._flush()

    def close(self) -> None:
        """Close socket and file."""
        self._chardev.close()
        self._log.close()

    def opened(self) -> None:
        """A client sees what is printed from now on."""

    def closed(self) -> None:
        """What it did not read is lost."""
        self._outbox.clear()

    def received(self, data: bytes) -> None:
        """Nobody reads what is typed."""

    def _flush(self) -> None:
        while self._outbox and (sent := self._chardev.send(bytes(self._outbox))):
            del self._outbox[:sent]
        if self._outbox:
            self._chardev.when_writable(self._flush)


class SimMachine:
    """The VM.

    Args:
        folder: Its run folder.
        incoming: Whether it waits for the state of another one.
        on_crash: Told how it ended, when QEMU would have; must call :meth:`close`.
    """

    def __init__(self, folder: Path, *, incoming: bool, on_crash: Callable[[str], None]) -> None:
        self._folder = folder
        self._on_crash = on_crash
        self._running = False
        self._incoming = incoming
        self._console = Console(folder)
        self._ports = [RedirDevice(slot, folder, self) for slot in range(SLOT_COUNT)]
        self._kernel = Kernel(self._ports, self._console.write)
        self._detached_at: dict[int, float] = {}
        self._torn: set[int] = set()
        """Slots whose device the source lost so late that the guest tears it down here."""
        self._torn_until = 0.0
        self._cut: set[int] = set()
        """Slots whose device was being enumerated when the guest was moved under a client."""

    @property
    def running(self) -> bool:
        """Whether the guest runs."""
        return self._running

    @property
    def incoming(self) -> bool:
        """Whether it waits for a state."""
        return self._incoming

    # -- run state ----------------------------------------------------------------------------

    def boot(self) -> None:
        """Let a new guest run."""
        self._running = True
        for port in self._ports:
            port.run_state_changed()
        self._kernel.boot()

    def pause(self) -> None:
        """Stop the guest."""
        if not self._running:
            return
        self._running = False
        self._kernel.pause()
        for port in self._ports:
            port.run_state_changed()

    def resume(self) -> None:
        """Let the guest run, or run on."""
        if self._running:
            return
        if self._cut:
            self.crash(
                "SIGABRT",
                "core.c:427: usb_handle_packet: Assertion "
                "`dev->state == USB_STATE_DEFAULT' failed.",
            )
            return
        self._running = True
        self._torn_until = self._kernel.clock.now() + _TEARDOWN_S
        for slot in self._torn:
            if not self._ports[slot].has_parser:
                self._tear_down_without_parser()
                return
        self._kernel.resume()
        for port in self._ports:
            port.run_state_changed()

    def close(self) -> None:
        """End; sockets vanish."""
        self.pause()
        for port in self._ports:
            port.close()
        self._console.close()

    # -- from the channels --------------------------------------------------------------------

    def log(self, text: str) -> None:
        """Write a line to what is QEMU's stderr."""
        with (self._folder / STDERR).open("a") as file:
            file.write(f"qemu-system-x86_64: {text}\n")

    def crash(self, signal: str, text: str) -> None:
        """End as QEMU does on a failed assertion or a bad pointer."""
        self.log(text)
        self._on_crash(f"QEMU was killed by {signal}: {text} (simulated)")

    def port_changed(self, slot: int) -> None:
        """A device came or went."""
        if not self._ports[slot].attached and self._kernel.knows(slot):
            self._detached_at[slot] = self._kernel.clock.now()
        self._kernel.port_changed(slot)

    def parser_lost(self, slot: int) -> None:
        """The client of a slot left."""
        torn = self._running and slot in self._torn
        if torn and self._kernel.clock.now() < self._torn_until:
            self._tear_down_without_parser()

    def completed(self, slot: int, packet_id: int, outcome: Outcome, data: bytes) -> None:
        """A transfer has ended."""
        self._kernel.completed(slot, packet_id, outcome, data)

    def _tear_down_without_parser(self) -> None:
        self.crash("SIGSEGV", "usbredirparser_do_write was called without a parser")

    # -- migration ----------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """Return all that moves, as JSON; the guest is stopped."""
        now = self._kernel.clock.now()
        slots = range(SLOT_COUNT)
        return {
            "torn": [slot for slot, at in self._detached_at.items() if now - at < _NOTICED_AFTER_S],
            "enumerating": [slot for slot in slots if self._kernel.is_enumerating(slot)],
            "ports": [port.save() for port in self._ports],
            "kernel": self._kernel.save(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`save` returned; the guest is still stopped."""
        self._incoming = False
        self._torn = set(state["torn"])
        self._cut = {slot for slot in state["enumerating"] if self._ports[slot].has_parser}
        for port, port_state in zip(self._ports, state["ports"], strict=True):
            port.load(port_state)
        self._kernel.load(state["kernel"])
