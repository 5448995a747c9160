"""What a virtual device does beyond chapter 9 of USB 2.0: the seam between bus and function.

A :class:`Function` is the part that makes a device a stick or a keyboard. It is asked by the
bus, as hardware is: it answers each token with a handshake, and never speaks first.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.lab.devices.descriptors import Description


class Handshake(enum.Enum):
    """How the device answers a token; USB 2.0 section 8.4.5."""

    ACK = enum.auto()
    NAK = enum.auto()
    """Not now: the host asks again until it gives up."""
    STALL = enum.auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """A handshake, with the data that went to the host before it.

    Attributes:
        handshake: ACK ends the transfer; STALL ends it in an error, after the data.
        data: What an IN transfer or a control read delivers; empty otherwise.
    """

    handshake: Handshake
    data: bytes = b""


ACK: Final = Answer(Handshake.ACK)
NAK: Final = Answer(Handshake.NAK)
STALL: Final = Answer(Handshake.STALL)


@dataclass(frozen=True, slots=True)
class Setup:
    """A setup packet; USB 2.0 section 9.3."""

    request_type: int
    request: int
    value: int
    index: int
    length: int

    @property
    def kind(self) -> tuple[int, int]:
        """The pair bmRequestType, bRequest: it names the request."""
        return self.request_type, self.request


class Timer(Protocol):
    """A callback that is due."""

    def cancel(self) -> None:
        """Do not call it."""


class Clock(Protocol):
    """Time as devices know it; an event loop is one."""

    def time(self) -> float:
        """Return seconds on a monotonic clock."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back at this time."""


class Bus(Protocol):
    """What a function may do to the bus that it is plugged into."""

    @property
    def clock(self) -> Clock:
        """The clock of the machine."""

    def halt(self, endpoint: int) -> None:
        """Answer STALL on this endpoint until the host clears the halt."""

    def wake(self) -> None:
        """Ask for the tokens again that were answered with NAK: something is ready now."""


class Function(Protocol):
    """One function of a device, across all the times it is plugged in and claimed."""

    @property
    def description(self) -> Description:
        """Descriptors, identity and speed."""

    def acquire(self) -> str | None:
        """Get hold of what backs the function; undone by :meth:`release`.

        Returns:
            None if it is ours now, else who holds it.

        Raises:
            UsbError: If it cannot be used at all.
        """

    def release(self) -> None:
        """Let go of what backs the function; safe to call again."""

    def reset(self, bus: Bus) -> None:
        """Begin anew on this bus: power came, the bus was reset, or a configuration was set."""

    def control(self, setup: Setup, data: bytes) -> Answer:
        """Answer a control transfer that chapter 9 leaves to the function."""

    def may_clear_halt(self) -> bool:
        """Return whether a halt may be cleared now; else it stays, however often one asks."""

    def data_out(self, endpoint: int, data: bytes) -> Answer:
        """Take a whole OUT transfer."""

    def data_in(self, endpoint: int, length: int) -> Answer:
        """Give data for an IN transfer of at most ``length`` bytes.

        Less than ``length`` ends in a short packet, unless a STALL ends it.
        """
