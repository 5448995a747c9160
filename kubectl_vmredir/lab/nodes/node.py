"""One node of the lab: it registers, runs its launcher pods, and serves their streams."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.k8s.status import StatusError
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cache import CONFLICT, Cache
from kubectl_vmredir.lab.clock import Clock, SystemClock
from kubectl_vmredir.lab.faults import FAULTS, FAULTS_ACTIVE, NodeFaults
from kubectl_vmredir.lab.nodes import reports
from kubectl_vmredir.lab.nodes.launcher import Launcher
from kubectl_vmredir.lab.nodes.means import Means, NodeOptions
from kubectl_vmredir.lab.nodes.streams import StreamServer, serve_streams
from kubectl_vmredir.lab.nodes.tls import handler_context
from kubectl_vmredir.lab.nodes.writer import Writer
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.model import VmiRef, VmiUid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.guests.domain import Hypervisor

logger = logging.getLogger(__name__)

_LAUNCHERS: Final = {"labelSelector": f"{objects.APP}={objects.LAUNCHER}"}


class Node:
    """What kubelet and virt-handler of a node do.

    Args:
        name: Of the node.
        folder: For the folders of its pods; made if it is not there. Logs of guests stay.
        client: Talks to the API server; outlives this.
        hypervisor: Makes the guests; outlives this.
        options: How the node behaves.
        clock: The time it goes by.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        client: KubeClient,
        hypervisor: Hypervisor,
        *,
        options: NodeOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        watched = {
            Collection.NODES: {"fieldSelector": f"metadata.name={name}"},
            Collection.PODS: _LAUNCHERS,
            Collection.VMIS: {},
            Collection.VMIMS: {},
        }
        self._name = name
        self._client = client
        self._clock = clock
        self._cache = Cache(client, watched)
        self._writer = Writer(client, self._cache, clock)
        self._means = Means(
            name, folder, hypervisor, self._cache, self._writer, clock, options or NodeOptions()
        )
        self._launchers: dict[str, Launcher] = {}
        self._faults_read: str | None = None

    async def run(self) -> None:
        """Be a node until cancelled.

        Raises:
            ExceptionGroup: Of ClusterErrors, if the cluster does not let us.
        """
        tls = await handler_context(self._client)
        async with (
            asyncio.TaskGroup() as group,
            serve_streams(self, tls) as streams,
        ):
            group.create_task(self._cache.run(), name=f"{self._name}-cache")
            await self._cache.listed()
            await self._bury()
            await self._register(streams.port)
            while True:
                changed = self._cache.changed
                await self._apply_faults(streams)
                for pod in self._cache.items(Collection.PODS):
                    if not self._is_mine(pod) or objects.uid(pod) in self._launchers:
                        continue
                    if objects.deleting(pod):  # before it was ever seen here
                        await self._writer.delete_now(Collection.PODS, pod)
                    elif not objects.is_final(pod):
                        launcher = self._launchers[objects.uid(pod)] = Launcher(self._means, pod)
                        group.create_task(launcher.run(), name=objects.name(pod))
                await changed.wait()

    # -- for the streams ----------------------------------------------------------------------

    def vmi(self, ref: VmiRef) -> VmiUid | None:
        """Return the UID of a VMI that runs here, as far as its label tells; None otherwise."""
        vmi = self._cache.get(Collection.VMIS, ref.namespace, ref.name)
        if vmi is None or objects.label(vmi, objects.NODE_NAME) != self._name:
            return None
        return VmiUid(objects.uid(vmi))

    def run_folders(self, vmi: VmiUid) -> Sequence[Path]:
        """Return the run folders of the launchers of a VMI that are here and have not ended."""
        return [
            launcher.run_folder
            for launcher in self._launchers.values()
            if launcher.vmi_uid == vmi and not launcher.has_ended
        ]

    # -- pods ---------------------------------------------------------------------------------

    def _is_mine(self, pod: JsonObject) -> bool:
        return objects.spec(pod).get("nodeName") == self._name

    async def _bury(self) -> None:
        """End the pods of an earlier life of this node: their guests died with it."""
        now = self._clock.now()
        for pod in self._cache.items(Collection.PODS):
            if self._is_mine(pod) and objects.phase(pod) == "Running":
                await self._writer.change(
                    Collection.PODS,
                    pod,
                    lambda seen: reports.pod_ended(seen, "Failed", now),
                    subresource="status",
                )

    # -- the node itself ----------------------------------------------------------------------

    async def _register(self, port: int) -> None:
        """Make Node and virt-handler pod, or those of an earlier life, say what is true now."""
        node = await self._ensure(Collection.NODES, reports.node(self._name))
        self._cache.learn(Collection.NODES, node)
        await self._writer.change(
            Collection.NODES,
            node,
            lambda _: reports.node_ready(self._clock.now()),
            subresource="status",
        )
        wanted = reports.handler_pod(self._name, port)
        pod = await self._ensure(Collection.PODS, wanted)
        annotations = {"metadata": {"annotations": wanted["metadata"]["annotations"]}}
        path = Collection.PODS.path(pod)
        await self._client.patch(path, annotations)
        await self._client.patch(f"{path}/status", reports.pod_running(pod, self._clock.now()))

    async def _ensure(self, collection: Collection, obj: JsonObject) -> JsonObject:
        try:
            return await self._client.create(collection.of(objects.namespace(obj)), obj)
        except StatusError as error:
            if error.status != CONFLICT:
                raise
            return await self._client.get(collection.path(obj))

    async def _apply_faults(self, streams: StreamServer) -> None:
        node = self._cache.get(Collection.NODES, "", self._name)
        wanted = objects.annotation(node or {}, FAULTS) or ""
        if node is None or wanted == self._faults_read:
            return
        self._faults_read = wanted
        try:
            faults = NodeFaults.parse(wanted)
        except ValueError as error:
            logger.warning("node %s: %s", self._name, error)
            return
        self._means.faults = faults
        await streams.apply(faults)
        active = {"metadata": {"annotations": {FAULTS_ACTIVE: wanted}}}
        await self._writer.change(Collection.NODES, node, lambda _: active)
