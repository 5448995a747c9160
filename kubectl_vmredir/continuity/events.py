"""What happens to the machine, and what it wants done: its whole interface in dataclasses.

Nobody may change one. Those four that carry bytes are not frozen all the same: that would
double the time to make one, and they are made for every chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubectl_vmredir.model import Boundary

# -- events ---------------------------------------------------------------------------------


@dataclass(slots=True)
class HostBytes:
    """The usb-host sent bytes, at least one."""

    data: memoryview
    """Valid during the call and until the effects are carried out; not kept."""


@dataclass(slots=True)
class GuestBytes:
    """The guest sent bytes on the link, at least one."""

    data: memoryview
    """Valid during the call and until the effects are carried out; not kept."""


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A fresh link is open; its QEMU has said nothing yet.

    Attributes:
        counts: Whether the link says what its QEMU has read, by :class:`Consumed`.
    """

    counts: bool = False


@dataclass(frozen=True, slots=True)
class Consumed:
    """QEMU has read so many of the bytes that were sent on the link; never less than before."""

    offset: int


@dataclass(frozen=True, slots=True)
class LinkSpliced:
    """A QEMU that has migrated goes on at the far end of another link, in the middle of all.

    It comes instead of :class:`LinkEnded`, and only while ``ContinuityMachine.can_splice``. All
    that the old link has received was handled before; what the new one receives goes on from there.

    Attributes:
        offset: So many bytes of those that were sent on the old link QEMU has read, exactly.
    """

    offset: int


@dataclass(frozen=True, slots=True)
class PokeWanted:
    """Send something that QEMU reads and ignores, so that :class:`Consumed` has to come.

    It goes out between two packets, and only while the guest may have the device. Nothing is sent
    while the last one is unread: a paused VM would not read those either.
    """


@dataclass(frozen=True, slots=True)
class LinkEnded:
    """The link is gone, whoever ended it."""

    boundary: Boundary


@dataclass(frozen=True, slots=True)
class HostEnded:
    """The usb-host is gone: device unplugged, process ended."""


@dataclass(frozen=True, slots=True)
class GuestWritable:
    """The link's write buffer passed its high (False) or low (True) water mark."""

    writable: bool


@dataclass(frozen=True, slots=True)
class HostWritable:
    """The write buffer towards the usb-host passed its high or low water mark."""

    writable: bool


@dataclass(frozen=True, slots=True)
class DetachRequested:
    """Take the device from the guest in an orderly way; :class:`DeviceDetached` answers.

    For unbind, and after :class:`DeviceGone`. Nothing passes on this link any more; the device
    is given to the guest of the next one.
    """


# -- effects --------------------------------------------------------------------------------


@dataclass(slots=True)
class SendToGuest:
    """Write this to the link."""

    data: memoryview | bytes


@dataclass(slots=True)
class SendToHost:
    """Write this to the usb-host."""

    data: memoryview | bytes


@dataclass(frozen=True, slots=True)
class ReadHost:
    """Stop (False) or go on (True) reading from the usb-host."""

    enabled: bool


@dataclass(frozen=True, slots=True)
class ReadGuest:
    """Stop (False) or go on (True) reading from the link. A new link starts with True."""

    enabled: bool


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Nothing more can be said on this link: close it, through the gate. The session stays."""

    reason: str


@dataclass(frozen=True, slots=True)
class RestartSession:
    """Close the link (through the gate) and the usb-host, and start over."""

    reason: str


@dataclass(frozen=True, slots=True)
class DeviceAttached:
    """The guest was told of the device: it is plugged in."""


@dataclass(frozen=True, slots=True)
class DeviceGone:
    """The device is gone, and the guest does not know yet: its requests end with ioerror.

    The owner asks for :class:`DetachRequested` as soon as the gate lets it.
    """


@dataclass(frozen=True, slots=True)
class DeviceDetached:
    """The guest has no device: it has said so, where it can, or its link has ended.

    Answers each :class:`DetachRequested`, at once where there is nothing to take, or no way to
    say so; at the latest when the link ends. Never comes without one.
    """


@dataclass(frozen=True, slots=True)
class DeviceRejected:
    """The guest's QEMU does not want this device (filter_reject)."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing is left of the former guest; the next one may get the device.

    Comes once after each link that ended (or detached) and had left something behind; until
    then ``ContinuityMachine.settled`` is False. The owner allows a bounded time for it.
    """


Event = (
    HostBytes
    | GuestBytes
    | LinkOpened
    | LinkEnded
    | LinkSpliced
    | Consumed
    | PokeWanted
    | HostEnded
    | GuestWritable
    | HostWritable
    | DetachRequested
)
Effect = (
    SendToGuest
    | SendToHost
    | ReadHost
    | ReadGuest
    | CloseLink
    | RestartSession
    | DeviceAttached
    | DeviceGone
    | DeviceDetached
    | DeviceRejected
    | Settled
)
