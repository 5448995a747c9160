"""Who has which stream of a VMI on one node, as virt-handler keeps it: in memory, by VMI UID.

Source: KubeVirt, pkg/virt-handler/rest/console.go. A connection that was not made through this
node's streams is unknown here, so its slot is handed out again.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kubectl_vmredir.model import SLOT_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_vmredir.model import VmiUid


class Slots:
    """USB redirection slots: the first free one for whoever comes."""

    def __init__(self) -> None:
        self._taken: dict[VmiUid, set[int]] = {}

    def claim(self, vmi: VmiUid) -> int | None:
        """Return the first free slot, which is taken now; None if all are."""
        taken = self._taken.setdefault(vmi, set())
        slot = next((slot for slot in range(SLOT_COUNT) if slot not in taken), None)
        if slot is not None:
            taken.add(slot)
        return slot

    def free(self, vmi: VmiUid, slot: int) -> None:
        """Give a slot back."""
        taken = self._taken[vmi]
        taken.discard(slot)
        if not taken:
            del self._taken[vmi]


class Sessions:
    """Consoles, or screens: one for each VMI, the newest wins."""

    def __init__(self) -> None:
        self._newest: dict[VmiUid, asyncio.Event] = {}

    def active(self, vmi: VmiUid) -> bool:
        """Return whether somebody has one."""
        return vmi in self._newest

    @contextmanager
    def take(self, vmi: VmiUid) -> Iterator[asyncio.Event]:
        """Take it from whoever has it, and give an event that is set when the next one does."""
        if (older := self._newest.get(vmi)) is not None:
            older.set()
        taken_away = self._newest[vmi] = asyncio.Event()
        try:
            yield taken_away
        finally:
            if self._newest.get(vmi) is taken_away:
                del self._newest[vmi]
