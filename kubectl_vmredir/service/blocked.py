"""What needs a person: how long a redirection stays blocked, and when it is tried again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import ClusterError, IdentityChanged, SlotsFull, UsbError
from kubectl_vmredir.service.linking import CURED_ELSEWHERE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubectl_vmredir.errors import VmRedirError
    from kubectl_vmredir.model import VmiRef, VmiUid
    from kubectl_vmredir.service.bell import Bell
    from kubectl_vmredir.service.claiming import DeviceClaimer
    from kubectl_vmredir.service.watching import ClusterWatcher
    from kubectl_vmredir.service.wish import Wish

BLOCKED_RETRY_S: Final = 120.0
"""How long a redirection that is blocked waits before it looks whether it still would be."""

SETTLING_S: Final = 2.0
"""As BLOCKED_RETRY_S, the first time that a device cannot be had for this reason; then ever longer.
It may be quite new, and udev give its node to the user some time after the kernel has announced
it; or who had it before may be just letting go."""


class Remedy:
    """Notices that what blocks a redirection may be cured.

    Seen, for trouble with the cluster, is that its watch comes back, that the VM is another one or
    has other slots, that a slot is free again, or that the user is again who bound: log in again,
    and the device comes back by itself. For trouble with the device it is that devices come or go.
    What a person cures where we do not see it is tried again every now and then.

    Args:
        vmi: The VM.
        watcher: Knows it.
        wishes: Returns all that is wanted.
        claimer: Knows whether devices come or go.
        stranger: Returns the error if the credentials are not those of who bound.
        bell: Rung when something may be seen.
    """

    def __init__(
        self,
        vmi: VmiRef,
        watcher: ClusterWatcher,
        wishes: Callable[[], Iterator[Wish]],
        claimer: DeviceClaimer,
        stranger: Callable[[], IdentityChanged | None],
        bell: Bell,
    ) -> None:
        self._vmi = vmi
        self._watcher = watcher
        self._wishes = wishes
        self._claimer = claimer
        self._stranger = stranger
        self._bell = bell
        self._loop = asyncio.get_running_loop()
        self._asked = False
        self._refused_because = ""
        self._look_after_s = SETTLING_S

    def ask(self) -> None:
        """Have it tried again at once: the user has acted."""
        self._asked = True
        self._bell.ring()

    def device_had(self) -> None:
        """Take in that the device could be had: what refuses it next is something new."""
        self._refused_because = ""

    async def found(self, error: VmRedirError) -> None:
        """Return when it is worth to try again what has failed like this."""
        seen = self._seen_of_vm(error)
        retry_at = None
        if isinstance(error, UsbError):
            retry_at = self._loop.time() + self._patience_with(error)
        elif isinstance(error, CURED_ELSEWHERE):
            retry_at = self._loop.time() + BLOCKED_RETRY_S
        while not self._asked and (retry_at is None or self._loop.time() < retry_at):
            match error:
                case IdentityChanged():
                    acted = self._stranger() is None
                case ClusterError():
                    acted = self._seen_of_vm(error) != seen
                case UsbError():
                    acted = self._claimer.devices_changed
                case _:
                    acted = False
            if acted:
                break
            await self._bell.wait(retry_at)
        self._asked = False

    def _patience_with(self, error: UsbError) -> float:
        """Return how long to wait before the device is looked at again, in seconds."""
        again = str(error) == self._refused_because
        self._look_after_s = min(2 * self._look_after_s, BLOCKED_RETRY_S) if again else SETTLING_S
        self._refused_because = str(error)
        return self._look_after_s

    def _seen_of_vm(self, error: VmRedirError) -> tuple[int, VmiUid | None, tuple[str, ...], int]:
        """Return what is another, when it is worth to try again."""
        vmi = self._watcher.facts(self._vmi).vmi
        uid, slots = (vmi.uid, vmi.slots) if vmi is not None else (None, ())
        wished = sum(wish.vmi == self._vmi for wish in self._wishes())
        rivals = wished if isinstance(error, SlotsFull) else 0
        return self._watcher.restorations(self._vmi), uid, slots, rivals
