"""Which redirection of a VM may dial next.

Over the api route virt-handler hands out the first free slot. So the redirections of one VM are
dialed one after the other, in the order of their slots: that way each one gets the channel that
it had before, as far as anybody can tell.
"""

from __future__ import annotations

from typing import Final

ORDER_PATIENCE_S: Final = 5.0
"""How long a redirection waits for those with a lower slot that cannot dial just now."""


class SlotOrder:
    """The queue of one VM: lowest slot first, one at a time. Pure: time is an argument.

    A redirection says :meth:`want` as soon as it knows that it will have to dial, which may be
    long before it is allowed to, so that those with a higher slot let it go first.

    Attributes:
        arrivals: How often a device has come into the VM: then the way there is open.
    """

    def __init__(self) -> None:
        self.arrivals = 0
        self._wanted_since: dict[int, float] = {}
        self._dialing: int | None = None

    def want(self, slot: int, now: float) -> None:
        """Join the queue; no effect on who is in it."""
        self._wanted_since.setdefault(slot, now)

    def leave(self, slot: int) -> None:
        """Leave the queue: linked, or not dialing after all."""
        self._wanted_since.pop(slot, None)
        self.dialed(slot)

    def free_at(self, slot: int, now: float) -> float | None:
        """Return from when a member may dial: a time not after ``now`` if it is its turn.

        None while another one is dialing; the caller hears of it when that is over.
        """
        if self._dialing not in (None, slot):
            return None
        lower = [since for other, since in self._wanted_since.items() if other < slot]
        return max((since + ORDER_PATIENCE_S for since in lower), default=now)

    def dialing(self, slot: int) -> None:
        """Begin to dial; it must be its turn."""
        assert self._dialing in (None, slot), "two redirections of one VM dial at once"
        self._dialing = slot

    def dialed(self, slot: int) -> None:
        """Have dialed, well or not."""
        if self._dialing == slot:
            self._dialing = None
