"""A guest comes to this node: what the target's virt-handler and libvirt do in a migration."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError, MigrationFailed
from kubectl_vmredir.lab import objects, timeline
from kubectl_vmredir.lab.nodes.reports import LOOPBACK
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.race import race
from kubectl_vmredir.lab.timeline import Dialect, Step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.guests.domain import Domain
    from kubectl_vmredir.lab.nodes.means import Means
    from kubectl_vmredir.lab.nodes.migration import Migration

SOURCE_END_TIMEOUT_S: Final = 15.0
"""How long nodeName waits for the source pod to end; virt-launcher.go has as much patience."""
REPORT_TIMEOUT_S: Final = 60.0
"""How long a target whose guest has ended waits for the source to report the failure."""


class Arrival:
    """Takes a guest in, from the hand-off on: :meth:`take_in`, then :meth:`acknowledge`.

    Args:
        means: Of the node.
        migration: The migration.
        pod: Of the target.
    """

    def __init__(self, means: Means, migration: Migration, pod: JsonObject) -> None:
        self._means = means
        self._migration = migration
        self._pod = pod

    async def take_in(self, listen: Callable[[], Awaitable[Domain]]) -> bool:
        """Go on until the guest runs here.

        Args:
            listen: Makes the guest that waits for its state.

        Returns:
            Whether it does; otherwise the migration has failed, and all is cleaned up.
        """
        if await self._take_in(listen):
            return True
        await self._clean_up()
        return False

    async def acknowledge(self) -> None:
        """Make the move known, step by step."""
        migration = self._migration
        await migration.tell(Step.DOMAIN_READY, timeline.domain_ready)
        if self._means.options.dialect is Dialect.TARGET_ACKS:
            await race(self._source_ended(), self._means.clock.sleep(SOURCE_END_TIMEOUT_S))
            await self._means.clock.sleep(self._means.options.node_name_gap_s)
            await self._means.clock.sleep(self._means.faults.flip_delay_s)
            await migration.tell(
                Step.NODE_FLIPPED, lambda now: timeline.node_flipped(self._means.node, now)
            )
            await migration.tell(Step.COMPLETED, lambda _: timeline.completed())
        else:
            await migration.until(lambda: migration.is_over or migration.state.get("completed"))
        await migration.tell(Step.CLEANED_UP, lambda _: timeline.cleaned_up())

    async def _take_in(self, listen: Callable[[], Awaitable[Domain]]) -> bool:
        migration = self._migration
        await migration.meet()
        if not await migration.tell(Step.PREPARED, lambda _: timeline.prepared(LOOPBACK)):
            return False
        await migration.until(lambda: migration.is_over or migration.state.get("startTimestamp"))
        await migration.until(lambda: migration.is_over or migration.may_begin(Step.DETECTED))
        if migration.is_over:
            return False
        try:
            domain = await listen()
        except LabError as error:
            await self._tell_end(str(error))
            return False
        await self._annotate(objects.LAB_MIGRATION_ADDRESS, domain.address)
        await migration.tell(Step.DETECTED, lambda _: timeline.detected())
        if not await race(_loaded(domain), self._failed()):
            await self._tell_end(await _ended(domain))
            return False
        await migration.until(lambda: migration.may_begin(Step.TARGET_RUNNING))
        with suppress(LabError):  # it died just now; whoever waits for its end hears of it
            await domain.resume()
        await migration.reached(Step.TARGET_RUNNING)
        return True

    async def _clean_up(self) -> None:
        """Lose interest in the VMI after a failure, once it is on record."""
        migration = self._migration
        over = migration.until(lambda: migration.is_over)
        await race(over, self._means.clock.sleep(REPORT_TIMEOUT_S))
        vmi = migration.vmi
        if vmi is not None:
            await self._means.writer.change(Collection.VMIS, vmi, self._without_label)

    def _without_label(self, vmi: JsonObject) -> JsonObject | None:
        mine = objects.label(vmi, objects.TARGET_NODE_NAME) == self._means.node
        return timeline.cleaned_up() if mine and self._migration.state else None

    async def _failed(self) -> bool:
        await self._migration.until(lambda: self._migration.is_over)
        return False

    async def _source_ended(self) -> None:
        await self._migration.until(
            lambda: (source := self._migration.pod("sourcePod")) is None or objects.is_final(source)
        )

    async def _annotate(self, key: str, value: str) -> None:
        await self._means.writer.change(
            Collection.PODS, self._pod, lambda _: {"metadata": {"annotations": {key: value}}}
        )

    async def _tell_end(self, how: str) -> None:
        await self._annotate(objects.LAB_GUEST_ENDED, how)


async def _loaded(domain: Domain) -> bool:
    try:
        await domain.wait_migrated()
    except MigrationFailed:
        return False
    return True


async def _ended(domain: Domain) -> str:
    await domain.destroy()
    return await domain.wait_ended()
