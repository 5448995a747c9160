"""One stream of events from the watches of VMIs and of their migrations, or from one of them."""

from __future__ import annotations

import asyncio
import enum
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Final, assert_never

from kubectl_vmredir.errors import ClusterError
from kubectl_vmredir.k8s.objects import EventType, whole
from kubectl_vmredir.k8s.status import StatusError
from kubectl_vmredir.kubevirt.refusals import explained
from kubectl_vmredir.kubevirt.vmi import essence_of_vmi, vmi_view, vmim_view
from kubectl_vmredir.service.ports import (
    VmiGone,
    VmimGone,
    VmimSeen,
    VmiSeen,
    WatchLost,
    WatchRestored,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import WatchEvent
    from kubectl_vmredir.k8s.transport import Params
    from kubectl_vmredir.service.ports import ClusterEvent

_QUEUE_SIZE: Final = 16
"""Events that wait for a slow reader; then the watches wait. A list of very many is passed on by so
many at a time, and packets do not wait for more."""


class Kind(enum.Enum):
    """What can be watched."""

    VMI = enum.auto()
    VMIM = enum.auto()


class Watch:
    """Watches collections of VMIs and of migrations; see the port.

    An async context manager that gives an iterator of events; leaving it ends the watches.

    Args:
        client: The cluster.
        collections: Path and query of what to watch.
    """

    def __init__(self, client: KubeClient, collections: Mapping[Kind, tuple[str, Params]]) -> None:
        self._client = client
        self._collections = collections
        self._queue: asyncio.Queue[ClusterEvent | ClusterError] = asyncio.Queue(_QUEUE_SIZE)
        self._told: set[Kind] = set()
        self._lost = False
        self._exit_stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> AsyncIterator[ClusterEvent]:
        group = await self._exit_stack.enter_async_context(asyncio.TaskGroup())
        self._tasks = [
            group.create_task(self._feed(kind), name=f"watch-{kind.name.lower()}")
            for kind in self._collections
        ]
        return self._events()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        # The group need not know what ended the body: it would wrap it.
        await self._exit_stack.__aexit__(None, None, None)

    async def _events(self) -> AsyncIterator[ClusterEvent]:
        while True:
            event = await self._queue.get()
            if isinstance(event, ClusterError):
                raise event
            yield event

    async def _feed(self, kind: Kind) -> None:
        try:
            path, params = self._collections[kind]
            keep = essence_of_vmi if kind is Kind.VMI else whole
            async with aclosing(self._client.watch(path, params, keep)) as events:
                async for event in events:
                    for told in self._translate(kind, event):
                        await self._queue.put(told)
        except StatusError as error:
            await self._queue.put(explained(error))
        except ClusterError as error:
            await self._queue.put(error)

    def _translate(self, kind: Kind, event: WatchEvent) -> list[ClusterEvent]:
        match event.type:
            case EventType.ADDED | EventType.MODIFIED:
                if kind is Kind.VMI:
                    return [VmiSeen(vmi_view(event.object))]
                return [VmimSeen(vmim_view(event.object))]
            case EventType.DELETED:
                if kind is Kind.VMI:
                    return [VmiGone(vmi_view(event.object))]
                return [VmimGone(vmim_view(event.object))]
            case EventType.LOST:
                self._told.discard(kind)
                if self._lost:
                    return []
                self._lost = True
                assert event.cause is not None
                return [WatchLost(event.cause)]
            case EventType.LISTED:
                self._told.add(kind)
                if len(self._told) < len(self._collections):
                    return []
                self._lost = False
                return [WatchRestored()]
            case _:
                assert_never(event.type)
