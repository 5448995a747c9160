"""A guest leaves this node: what the source's virt-handler and libvirt do in a migration."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError, MigrationFailed
from kubectl_vmredir.lab import objects, timeline
from kubectl_vmredir.lab.faults import Fault
from kubectl_vmredir.lab.guests.domain import MigrationPhase
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.race import race
from kubectl_vmredir.lab.timeline import Dialect, Step

if TYPE_CHECKING:
    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.guests.domain import Domain
    from kubectl_vmredir.lab.nodes.means import Means
    from kubectl_vmredir.lab.nodes.migration import Migration

logger = logging.getLogger(__name__)

HAND_OVER_TIMEOUT_S: Final = 60.0
"""How long the target has to say that the guest runs there; migration-source.go."""


async def depart(means: Means, migration: Migration, domain: Domain) -> bool:
    """Migrate a guest away, from the hand-off on.

    Returns:
        Whether it is gone; otherwise it runs on here.
    """
    return await _Departure(means, migration, domain).run()


class _Departure:
    def __init__(self, means: Means, migration: Migration, domain: Domain) -> None:
        self._means = means
        self._migration = migration
        self._domain = domain
        self._cancelled = asyncio.Event()

    async def run(self) -> bool:
        migration = self._migration
        await migration.meet()
        failure = await race(self._move(), self._source_ended())
        if failure is not None:
            await self._report(failure)
            return False
        if migration.abort_requested:
            await migration.report(lambda _: timeline.abort_refused())
        await race(self._target_runs(), self._means.clock.sleep(HAND_OVER_TIMEOUT_S))
        await migration.until(lambda: migration.may_begin(Step.SOURCE_GONE))
        await self._domain.destroy()
        await migration.reached(Step.SOURCE_GONE)
        if self._means.options.dialect is Dialect.SOURCE_ACKS:
            await self._acknowledge()
        return True

    async def _move(self) -> MigrationFailed | None:
        """Move the guest's state to the target; return why it could not be done, if so."""
        migration = self._migration
        await migration.tell(Step.STARTED, timeline.started)
        await migration.until(
            lambda: self._is_called_off() or migration.state.get("targetNodeDomainDetected")
        )
        await migration.until(
            lambda: (
                self._is_called_off()
                # The watch of pods may be behind that of VMIs.
                or (migration.may_begin(Step.PRE_SWITCHOVER) and self._address is not None)
            )
        )
        if self._is_called_off() or self._address is None:
            return MigrationFailed("it was called off before the copy")
        async with asyncio.TaskGroup() as group:
            canceller = group.create_task(self._cancel_when_asked(), name="cancel-migration")
            try:
                await self._domain.migrate(self._address, on_phase=self._on_phase)
            except MigrationFailed as failure:
                return failure
            finally:
                canceller.cancel()
        return None

    @property
    def _address(self) -> str | None:
        """Where the target's guest waits, as soon as its node has said it."""
        target = self._migration.pod("targetPod")
        return None if target is None else objects.annotation(target, objects.LAB_MIGRATION_ADDRESS)

    async def _source_ended(self) -> MigrationFailed | None:
        return MigrationFailed(f"the source's guest ended: {await self._domain.wait_ended()}")

    async def _cancel_when_asked(self) -> None:
        await self._migration.until(
            lambda: self._migration.abort_requested or self._migration.vmi is None
        )
        with suppress(LabError):  # the guest died just now: the migration fails by itself
            await self._domain.cancel_migration()
        self._cancelled.set()

    async def _on_phase(self, phase: MigrationPhase) -> None:
        migration = self._migration
        fails = Fault.FAILED_MIGRATION in self._means.faults
        if phase is MigrationPhase.ACTIVE:
            if fails and (target := migration.pod("targetPod")) is not None:
                await self._means.writer.change(Collection.PODS, target, _crash)
            return
        await migration.reached(Step.PRE_SWITCHOVER)
        may_go_on = migration.until(
            lambda: (
                self._target_guest_ended()
                or (not fails and migration.may_begin(Step.TARGET_RUNNING))
            )
        )
        await race(may_go_on, _when(self._cancelled))

    def _is_called_off(self) -> bool:
        """Return whether there is nothing to copy, or nobody to copy to."""
        migration = self._migration
        return migration.is_over or migration.abort_requested or self._target_guest_ended()

    def _target_guest_ended(self) -> bool:
        target = self._migration.pod("targetPod")
        return target is None or objects.annotation(target, objects.LAB_GUEST_ENDED) is not None

    async def _target_runs(self) -> None:
        migration = self._migration
        await migration.until(
            lambda: migration.is_over or migration.state.get("targetNodeDomainReadyTimestamp")
        )

    async def _report(self, failure: MigrationFailed) -> None:
        logger.info("migration %s: %s", self._migration.uid, failure)
        if self._migration.abort_requested:
            await self._migration.report(timeline.aborted)
        else:
            said = f"VM {self._domain.spec.vmi} did not move: "
            reason = str(failure).removeprefix(said)
            await self._migration.report(lambda now: timeline.failed(now, reason))

    async def _acknowledge(self) -> None:
        """Flip nodeName and complete in one update, as KubeVirt <= 1.5 does."""
        delay_s = self._means.options.node_name_gap_s + self._means.faults.flip_delay_s
        await self._means.clock.sleep(delay_s)
        target = str(self._migration.state.get("targetNode", ""))
        flipped = await self._migration.tell(
            Step.NODE_FLIPPED, lambda now: timeline.node_flipped(target, now, completed=True)
        )
        if flipped:
            await self._migration.reached(Step.COMPLETED)


def _crash(pod: JsonObject) -> JsonObject:
    del pod
    return {"metadata": {"annotations": {objects.LAB_CRASH: "mid-copy"}}}


async def _when(event: asyncio.Event) -> None:
    await event.wait()
