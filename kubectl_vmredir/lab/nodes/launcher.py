"""One launcher pod of a node: its folder, its guest, and where the guest comes from and goes to.

What kubelet, virt-launcher and virt-handler do for it, one after the other, in one task.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.controllers.writes import phase_change
from kubectl_vmredir.lab.guests.domain import DomainSpec
from kubectl_vmredir.lab.nodes import reports
from kubectl_vmredir.lab.nodes.arrival import Arrival
from kubectl_vmredir.lab.nodes.departure import depart
from kubectl_vmredir.lab.nodes.migration import Migration
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.race import race
from kubectl_vmredir.model import VmiUid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.guests.domain import Domain
    from kubectl_vmredir.lab.nodes.means import Means

logger = logging.getLogger(__name__)

_DEFAULT_MEMORY_MIB: Final = 192
_MIB: Final = {"Mi": 1, "Gi": 1024}


class Launcher:
    """A launcher pod, from its arrival on the node to its end.

    Attributes:
        vmi_uid: Whose guest it holds.
        has_ended: Whether the guest is gone for good.
    """

    def __init__(self, means: Means, pod: JsonObject) -> None:
        self._means = means
        self._pod = pod
        self.vmi_uid = VmiUid(objects.label(pod, objects.CREATED_BY))
        self.has_ended = False
        self._phase = "Succeeded"
        self._domain: Domain | None = None
        self._departed: set[str] = set()

    @property
    def run_folder(self) -> Path:
        """What is ``/run/kubevirt-private/UID`` in the pod."""
        pod_folder = self._means.folder / "pods" / objects.uid(self._pod)
        return pod_folder / "run" / "kubevirt-private" / self.vmi_uid

    async def run(self) -> None:
        """Live until the guest is gone, or somebody deletes the pod."""
        self.run_folder.mkdir(parents=True)
        now = self._means.clock.now()
        await self._report_pod(lambda pod: reports.pod_running(pod, now))
        async with asyncio.TaskGroup() as group:
            crash = group.create_task(self._crash_when_asked(), name="crash")
            await race(self._live(), self._deleted())
            crash.cancel()
        if self._domain is not None:
            await self._domain.destroy()
        self.has_ended = True
        if objects.deleting(self._vmi or {}):
            await self._end_vmi("Succeeded")
        await self._end_pod()

    # -- the pod ------------------------------------------------------------------------------

    async def _deleted(self) -> None:
        await self._means.cache.until(lambda: self._is_deleted)

    @property
    def _is_deleted(self) -> bool:
        pod = self._means.cache.by_uid(objects.uid(self._pod))
        return pod is None or objects.deleting(pod)

    async def _end_pod(self) -> None:
        if self._is_deleted:
            await self._means.writer.delete_now(Collection.PODS, self._pod)
            return
        now = self._means.clock.now()
        await self._report_pod(lambda pod: reports.pod_ended(pod, self._phase, now))

    async def _report_pod(self, change: Callable[[JsonObject], JsonObject]) -> None:
        await self._means.writer.change(Collection.PODS, self._pod, change, subresource="status")

    async def _crash_when_asked(self) -> None:
        uid = objects.uid(self._pod)

        def asked() -> bool:
            pod = self._means.cache.by_uid(uid)
            return pod is not None and objects.annotation(pod, objects.LAB_CRASH) is not None

        await self._means.cache.until(lambda: self._domain is not None and asked())
        assert self._domain is not None
        await self._domain.destroy()

    # -- the guest ----------------------------------------------------------------------------

    @property
    def _vmi(self) -> JsonObject | None:
        return self._means.cache.by_uid(self.vmi_uid)

    async def _live(self) -> None:
        if objects.label(self._pod, objects.MIGRATION_JOB_UID):
            gone = not await self._arrive()
        else:
            gone = not await self._boot()
        while not gone:
            away = await race(self._called_away(), self._lost())
            if away is None:
                return
            self._departed.add(away.uid)
            assert self._domain is not None
            gone = await depart(self._means, away, self._domain)

    async def _boot(self) -> bool:
        """Start the guest when it is this node's turn; return whether it runs."""
        vmi = await self._means.cache.until(self._scheduled_here)
        try:
            self._domain = await self._means.hypervisor.boot(self._spec(vmi))
        except LabError as error:
            await self._fail(str(error))
            return False
        now = self._means.clock.now()
        running = reports.vmi_running(now, memory_mib(vmi))
        await self._means.writer.change(
            Collection.VMIS,
            vmi,
            lambda seen: {"status": phase_change(seen, "Running", now) | running},
        )
        return True

    def _scheduled_here(self) -> JsonObject | None:
        vmi = self._vmi
        if vmi is None or objects.phase(vmi) != "Scheduled":
            return None
        return vmi if objects.status(vmi).get("nodeName") == self._means.node else None

    async def _arrive(self) -> bool:
        """Take the guest in; return whether it runs here."""
        migration = await self._means.cache.until(self._coming)
        arrival = Arrival(self._means, migration, self._pod)
        if not await arrival.take_in(lambda: self._listen(migration)):
            return False
        return await race(_acknowledged(arrival), self._lost()) is not None

    def _coming(self) -> Migration | None:
        vmi = self._vmi
        if vmi is None:
            return None
        job = objects.label(self._pod, objects.MIGRATION_JOB_UID)
        state = objects.migration_state(vmi)
        mine = state.get("migrationUid") == job and not state.get("failed")
        return Migration(self._means, vmi) if mine else None

    async def _listen(self, migration: Migration) -> Domain:
        vmi = migration.vmi
        if vmi is None:
            raise LabError(f"VMI {self.vmi_uid} is gone")
        self._domain = await self._means.hypervisor.listen(self._spec(vmi))
        return self._domain

    async def _called_away(self) -> Migration | None:
        """Wait until a migration wants the guest, and its target is ready."""
        return await self._means.cache.until(self._leaving)

    def _leaving(self) -> Migration | None:
        vmi = self._vmi
        state = objects.migration_state(vmi or {})
        if (
            vmi is None
            or state.get("sourcePod") != objects.name(self._pod)
            or state.get("migrationUid") in self._departed
            or state.get("completed")
            or not state.get("targetNodeAddress")
        ):
            return None
        return Migration(self._means, vmi)

    async def _lost(self) -> None:
        """Wait until the guest ends by itself, and say so."""
        assert self._domain is not None
        await self._fail(await self._domain.wait_ended())

    async def _fail(self, how: str) -> None:
        logger.warning("guest of pod %s: %s", objects.name(self._pod), how)
        self._phase = "Failed"
        await self._end_vmi("Failed")

    async def _end_vmi(self, phase: str) -> None:
        """Say how the VMI ended, unless somebody has."""
        vmi = self._vmi
        if vmi is None:
            return
        now = self._means.clock.now()
        await self._means.writer.change(
            Collection.VMIS,
            vmi,
            lambda seen: (
                None if objects.is_final(seen) else {"status": phase_change(seen, phase, now)}
            ),
        )

    def _spec(self, vmi: JsonObject) -> DomainSpec:
        bandwidth = objects.annotation(vmi, objects.LAB_BANDWIDTH)
        return DomainSpec(
            vmi=objects.ref(vmi),
            vmi_uid=self.vmi_uid,
            run_folder=self.run_folder,
            memory_mib=memory_mib(vmi),
            bandwidth=int(bandwidth) if bandwidth else None,
        )


async def _acknowledged(arrival: Arrival) -> bool:
    await arrival.acknowledge()
    return True


def memory_mib(vmi: JsonObject) -> int:
    """Return the memory that a VMI asks for, in MiB; only Mi and Gi are understood."""
    domain = objects.spec(vmi).get("domain") or {}
    requested = (domain.get("resources") or {}).get("requests") or {}
    guest = (domain.get("memory") or {}).get("guest")
    found = re.fullmatch(r"(\d+)(Mi|Gi)", str(guest or requested.get("memory") or ""))
    return int(found[1]) * _MIB[found[2]] if found else _DEFAULT_MEMORY_MIB
