"""Keeps one device session with the usb-host while the usb-guests change.

Events and effects are in ``events.py``. The machine does no I/O and reads no clock. Its owner turns what happens on both sides into
events, calls :meth:`ContinuityMachine.handle`, and carries out the effects in order, before
the next event. State of the VM side::

                  LinkOpened            guest's hello            leftovers gone
    HOLDING ------------------> GREETING -----------> SETTLING ----------------> LIVE
       ^                                                                           |
       |        LinkEnded, from any state but BROKEN                DetachRequested|
       +----------------------------------------------- DETACHED <-----------------+

    LIVE -- violation, other capabilities --> BROKEN      any -- cannot go on --> CUT

What it does, in the words of the protocol:

* The usb-host is greeted once. Its hello, and the latest interface_info, ep_info and
  device_connect, are kept. On a fresh link nothing is sent before the guest's own hello. The
  first guest's hello goes to the usb-host; a later one is answered here, swallowed, and the
  three packets are replayed. A later guest with other capabilities than the first one's makes
  the owner restart the session, since the wire format of a running session cannot change.
* While LIVE a chunk of one side goes to the other as it came, the same view. Packets are
  taken out only where they must be: an answer to nothing, a fence, a packet that is ours.
  To the usb-host go whole packets only, so the head of a packet whose rest has not come yet
  is copied and kept. To the guest payload goes as it comes.
* When a link ends, whatever its boundary, everything that the guest left is undone: data
  requests cancelled, streams stopped and freed, alternate settings put back to 0, as after a
  replug; then a *fence* follows: a get_configuration of our own. libusbredirhost works off its
  input in order and answers a cancel at once, so all that belongs to the former guest comes
  before the fence's answer; it is dropped up to there. Leftovers are gone, and
  :class:`Settled` is told, when the fence is answered and no request is open any more.
* device_disconnect while no guest is attached is acknowledged here.
* When the usb-host has ended, requests are answered with ioerror until
  :class:`DetachRequested` takes the device from the guest (which must wait for the gate).

Bounds, and what happens at them: what is kept of an unfinished packet is bounded by the
guard (about 1 MiB from the guest, 0.5 KiB from the usb-host), open requests and bytes in
flight by the ledger; past them the session is restarted. Nothing else is queued here: while
the link is not writable the usb-host is not read (:class:`ReadHost`), while the usb-host is
not writable the link is not read (:class:`ReadGuest`). Without a link, or on one that takes
no more packets, the usb-host is always read and its packets are dropped.

After :class:`RestartSession` the machine is BROKEN: it swallows everything. The owner closes
the link through the gate, ends the usb-host, and starts over with a new machine.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.continuity.events import Effect, Event


class State(enum.Enum):
    """Where the VM side stands; see the module docstring."""

    HOLDING = enum.auto()
    """No link."""
    GREETING = enum.auto()
    """A fresh link; its hello has not come."""
    SETTLING = enum.auto()
    """The guest is greeted, and waits for the leftovers of the former one to go."""
    LIVE = enum.auto()
    """Packets pass."""
    DETACHED = enum.auto()
    """The device was taken from the guest, or is just being taken."""
    CUT = enum.auto()
    """:class:`CloseLink` was asked for: nothing passes on this link any more."""
    BROKEN = enum.auto()
    """:class:`RestartSession` was asked for: the end."""


class ContinuityMachine:
    """Decides what to do with each event; see the module docstring."""

    @property
    def state(self) -> State:
        """Where the VM side stands."""
        raise NotImplementedError

    @property
    def settled(self) -> bool:
        """Whether nothing of a former guest is left in the usb-host."""
        raise NotImplementedError

    @property
    def attached(self) -> bool:
        """Whether the guest of this link has the device now."""
        raise NotImplementedError

    @property
    def sent(self) -> int:
        """Bytes given out as :class:`SendToGuest` since the last :class:`LinkOpened`."""
        raise NotImplementedError

    @property
    def open_requests(self) -> int:
        """Requests that the usb-host has not answered."""
        raise NotImplementedError

    def handle(self, event: Event) -> Sequence[Effect]:
        """Apply one event and return the effects to carry out, in order.

        What the two sides send is never an error here: a violation of the protocol becomes
        :class:`CloseLink` or :class:`RestartSession`.

        Raises:
            LocalProtocolError: If the event cannot happen in the current state. The machine
                is left as it was.
        """
        raise NotImplementedError
