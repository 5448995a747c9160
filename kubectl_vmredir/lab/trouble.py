"""Asks nodes for faults, and waits until they make them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.faults import FAULTS, FAULTS_ACTIVE, Fault, NodeFaults
from kubectl_vmredir.lab.moves import WAIT_TIMEOUT_S
from kubectl_vmredir.lab.objects import Collection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.cache import Cache


class Trouble:
    """The faults of all nodes.

    Args:
        client: Of somebody who may change nodes.
        cache: What that client sees.
    """

    def __init__(self, client: KubeClient, cache: Cache) -> None:
        self._client = client
        self._cache = cache

    async def make(self, fault: Fault, number: float = 0.0, *, node: str | None = None) -> None:
        """Let a node, or all, make one fault more; returns when they do."""
        await self._change(lambda faults: faults.with_fault(fault, number), node)

    async def end(self, fault: Fault, *, node: str | None = None) -> None:
        """Let a node, or all, make one fault less; returns when they no longer do."""
        await self._change(lambda faults: faults.without(fault), node)

    async def cordon(self, node: str | None = None, *, unschedulable: bool = True) -> None:
        """Keep the scheduler from a node, or from all; or open it again."""
        for obj in self._nodes(node):
            change = {"spec": {"unschedulable": unschedulable or None}}
            patched = await self._client.patch(Collection.NODES.path(obj), change)
            self._cache.learn(Collection.NODES, patched)

    def _nodes(self, name: str | None) -> Sequence[JsonObject]:
        nodes = self._cache.items(Collection.NODES)
        return [node for node in nodes if name in (None, objects.name(node))]

    async def _change(self, change: Callable[[NodeFaults], NodeFaults], name: str | None) -> None:
        for node in self._nodes(name):
            faults = str(change(NodeFaults.parse(objects.annotation(node, FAULTS) or "")))
            patch = {"metadata": {"annotations": {FAULTS: faults}}}
            patched = await self._client.patch(Collection.NODES.path(node), patch)
            self._cache.learn(Collection.NODES, patched)
            await self._until_made(objects.name(node), faults)

    async def _until_made(self, name: str, faults: str) -> None:
        def made() -> bool:
            node = self._cache.get(Collection.NODES, "", name)
            return node is not None and objects.annotation(node, FAULTS_ACTIVE) == faults

        try:
            async with asyncio.timeout(WAIT_TIMEOUT_S):
                await self._cache.until(made)
        except TimeoutError as exc:
            raise LabError(f"node {name} does not hear of its faults") from exc
