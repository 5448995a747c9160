"""Says which side is to be read now: nothing is queued, so that one waits for the other.

While the link is not writable the usb-host is not read, while the usb-host is not writable the
link is not. Without a link, or on one where nothing passes, the usb-host is always read, and what
it says is dropped. To a guest whose device is gone it is we who answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.continuity.events import ReadGuest, ReadHost
from kubectl_vmredir.continuity.state import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.continuity.events import Effect


class Flow:
    """Remembers what each side takes, and which one is read.

    Attributes:
        host_writable: Whether the usb-host takes more.
        guest_writable: Whether the link takes more.
    """

    def __init__(self) -> None:
        self.host_writable = True
        self.guest_writable = True
        self._reads_host = True
        self._reads_guest = True

    def forget_link(self) -> None:
        """Have the next link start as it does: writable, and read."""
        self.guest_writable = self._reads_guest = True

    def update(self, state: State) -> Sequence[Effect]:
        """Return what is to be changed about the reading now."""
        effects: list[Effect] = []
        reads_host = self.guest_writable or state is not State.LIVE
        if reads_host is not self._reads_host:
            self._reads_host = reads_host
            effects.append(ReadHost(reads_host))
        match state:
            case State.LIVE:
                reads_guest = self.host_writable
            case State.LOST:
                reads_guest = self.guest_writable
            case _:
                reads_guest = True
        if reads_guest is not self._reads_guest:
            self._reads_guest = reads_guest
            effects.append(ReadGuest(reads_guest))
        return effects
