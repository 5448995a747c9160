"""Runs the controllers: asks them for the next write at every change, and carries it out."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, assert_never

from kubectl_vmredir.backoff import exponential_backoff
from kubectl_vmredir.errors import ClusterError
from kubectl_vmredir.k8s.status import StatusError
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cache import CONFLICT, NOT_FOUND, Cache
from kubectl_vmredir.lab.clock import Clock, SystemClock
from kubectl_vmredir.lab.controllers import instances, machines, migrations, scheduler
from kubectl_vmredir.lab.controllers.writes import AskAgain, Bind, Create, Delete, Patch
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.race import race

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.controllers.writes import Wish, Write

logger = logging.getLogger(__name__)

_COLLISION_S: Final = 0.1
"""After the refusal of a new object: another of its name is there, or about to go."""
_LAUNCHERS: Final = {"labelSelector": f"{objects.APP}={objects.LAUNCHER}"}


class Controllers:
    """All controllers of one cluster.

    They keep nothing: killed at any moment and started again, anywhere, they go on where the
    objects are.

    Args:
        client: Talks to the API server; outlives this.
        clock: The time they go by.
    """

    def __init__(self, client: KubeClient, *, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or SystemClock()
        self._cache = Cache(
            client,
            {
                Collection.NODES: {},
                Collection.PODS: _LAUNCHERS,
                Collection.VMS: {},
                Collection.VMIS: {},
                Collection.VMIMS: {},
            },
        )

    async def run(self) -> None:
        """Control until cancelled.

        Raises:
            ExceptionGroup: Of ClusterErrors, if the cluster does not let us.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._cache.run(), name="controllers-cache")
            await self._cache.listed()
            delays = exponential_backoff()
            while True:
                try:
                    await self._turn()
                except ClusterError as error:
                    if not error.retryable:
                        raise
                    delay_s = next(delays)
                    logger.warning("%s; trying again in %.1f s", error, delay_s)
                    await self._clock.sleep(delay_s)
                else:
                    delays = exponential_backoff()

    async def _turn(self) -> None:
        """Write what is due, or wait until something may be."""
        changed = self._cache.changed
        again: list[datetime] = []
        written = False
        for wish in list(self._wishes()):
            if isinstance(wish, AskAgain):
                again.append(wish.at)
            else:
                await self._carry_out(wish)
                written = True
        if not written:
            await self._rest(changed, min(again, default=None))

    async def _rest(self, changed: asyncio.Event, until: datetime | None) -> None:
        if until is None:
            await changed.wait()
            return
        delay_s = (until - self._clock.now()).total_seconds()
        await race(_set(changed), self._clock.sleep(max(delay_s, 0.0)))

    async def _carry_out(self, write: Write) -> None:
        """Send a write. One that came too late is dropped: what is there now is looked at again."""
        client = self._client
        try:
            match write:
                case Create(collection, obj):
                    path = collection.of(objects.namespace(obj))
                    self._cache.learn(collection, await client.create(path, obj))
                case Patch(collection, obj, change, subresource):
                    path = collection.path(obj) + (f"/{subresource}" if subresource else "")
                    seen = {"resourceVersion": objects.version(obj)}
                    metadata = {**change.get("metadata", {}), **seen}
                    patched = await client.patch(path, {**change, "metadata": metadata})
                    self._cache.learn(collection, patched)
                case Delete(collection, obj):
                    only = {"preconditions": {"uid": objects.uid(obj)}}
                    await client.delete(collection.path(obj), options=only)
                    await self._cache.look(collection, obj)
                case Bind(pod, node):
                    await self._bind(pod, node)
                case _:
                    assert_never(write)
        except StatusError as error:
            if error.status not in (CONFLICT, NOT_FOUND):
                raise
            logger.debug("too late: %s", error)
            match write:
                case Patch(collection, obj) | Delete(collection, obj):
                    await self._cache.look(collection, obj)
                case Bind(pod):
                    await self._cache.look(Collection.PODS, pod)
                case Create():  # the watch brings what is in the way
                    await self._clock.sleep(_COLLISION_S)

    async def _bind(self, pod: JsonObject, node: JsonObject) -> None:
        # The watch of nodes may be behind that of pods: look whether it was cordoned meanwhile.
        await self._cache.look(Collection.NODES, node)
        fresh = self._cache.get(Collection.NODES, "", objects.name(node))
        if fresh is None or not scheduler.takes_pods(fresh):
            return
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": objects.name(pod), "namespace": objects.namespace(pod)},
            "target": {"apiVersion": "v1", "kind": "Node", "name": objects.name(node)},
        }
        await self._client.create(f"{Collection.PODS.path(pod)}/binding", binding)
        await self._cache.look(Collection.PODS, pod)

    def _wishes(self) -> Iterator[Wish]:
        """Yield what is due, one wish for each object at most."""
        now = self._clock.now()
        items = self._cache.items
        pods = items(Collection.PODS)
        for vm in items(Collection.VMS):
            vmi = self._cache.get(Collection.VMIS, objects.namespace(vm), objects.name(vm))
            if wish := machines.decide(vm, vmi):
                yield wish
        launchers: dict[str, list[JsonObject]] = {}
        for pod in pods:
            launchers.setdefault(objects.label(pod, objects.CREATED_BY), []).append(pod)
        for vmi in items(Collection.VMIS):
            if wish := instances.decide(vmi, launchers.get(objects.uid(vmi), ()), now):
                yield wish
        yield from self._migration_wishes(launchers, now)
        for pod in pods:
            if wish := scheduler.decide(pod, items(Collection.NODES), pods):
                yield wish

    def _migration_wishes(
        self, launchers: Mapping[str, Sequence[JsonObject]], now: datetime
    ) -> Iterator[Wish]:
        vmims = self._cache.items(Collection.VMIMS)
        for vmim in vmims:
            vmi_name = objects.spec(vmim)["vmiName"]
            vmi = self._cache.get(Collection.VMIS, objects.namespace(vmim), vmi_name)
            siblings = [
                other
                for other in vmims
                if objects.namespace(other) == objects.namespace(vmim)
                and objects.spec(other)["vmiName"] == vmi_name
            ]
            mine = launchers.get(objects.uid(vmi or {}), ())
            if wish := migrations.decide(vmim, vmi, mine, siblings, now):
                yield wish


async def _set(event: asyncio.Event) -> None:
    await event.wait()
