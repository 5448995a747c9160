"""Turns what a watch tells of VMIs into news for a user interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.service.interface import (
    Trouble,
    VmiChanged,
    VmiRemoved,
    VmisSeen,
    VmisUncertain,
)
from kubectl_vmredir.service.ports import VmiGone, VmiSeen, WatchLost, WatchRestored

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from kubectl_vmredir.model import VmiRef, VmiView
    from kubectl_vmredir.service.interface import VmiNews, VmiSlots
    from kubectl_vmredir.service.ports import ClusterEvent


async def news_of_vmis(
    events: AsyncIterator[ClusterEvent], slots_of: Callable[[VmiView], VmiSlots]
) -> AsyncGenerator[VmiNews, None]:
    """Yield what is new of the VMIs of a watch, each change once.

    Args:
        events: Of :meth:`~kubectl_vmredir.service.ports.Cluster.watch_vmis`.
        slots_of: Returns a VM with its slots.
    """
    known: dict[VmiRef, VmiSlots] = {}
    certain = False
    async for event in events:
        match event:
            case VmiSeen(vmi=vmi):
                seen = slots_of(vmi)
                changed = known.get(vmi.ref) != seen
                known[vmi.ref] = seen
                if certain and changed:
                    yield VmiChanged(seen)
            case VmiGone(vmi=vmi) if vmi.ref in known and known[vmi.ref].vmi.uid == vmi.uid:
                del known[vmi.ref]
                if certain:
                    yield VmiRemoved(vmi.ref)
            case WatchLost(cause=cause):
                certain = False
                yield VmisUncertain(Trouble.of(cause))
            case WatchRestored():
                certain = True
                yield VmisSeen(tuple(known.values()))
            case _:
                pass
