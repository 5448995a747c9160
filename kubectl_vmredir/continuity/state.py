"""Where the VM side of a device session stands."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """The states of the machine; what leads from one to the other is drawn in `machine.py`."""

    HOLDING = enum.auto()
    """No link."""
    GREETING = enum.auto()
    """A fresh link; the hellos have not been exchanged."""
    SETTLING = enum.auto()
    """The guest is greeted, and waits for the leftovers of the former one to go."""
    LIVE = enum.auto()
    """Packets pass."""
    LOST = enum.auto()
    """The device is gone, and the guest does not know yet."""
    DETACHED = enum.auto()
    """The device was taken from the guest, or is just being taken, or was rejected."""
    CUT = enum.auto()
    """:class:`CloseLink` was asked for."""
    BROKEN = enum.auto()
    """:class:`RestartSession` was asked for."""
