"""One migration as a node sees it: its fields, its holds, and what the node writes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubectl_vmredir.lab import objects, timeline
from kubectl_vmredir.lab.objects import Collection

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.lab.nodes.means import Means
    from kubectl_vmredir.lab.timeline import Step


class Migration:
    """The migration that a VMI's migrationState names, for as long as it does.

    Args:
        means: Of the node.
        vmi: The VMI.
    """

    def __init__(self, means: Means, vmi: JsonObject) -> None:
        self._means = means
        self._vmi = vmi
        self.uid = str(objects.migration_state(vmi)["migrationUid"])

    async def meet(self) -> None:
        """Learn of the migration object, and with it of its holds, and of the two pods.

        Their watches may be behind that of VMIs: nobody may run past a hold, or take a pod for
        gone that has not been heard of.
        """
        await self._means.writer.look_around(Collection.VMIMS)
        if self.pod("sourcePod") is None or self.pod("targetPod") is None:
            await self._means.writer.look_around(Collection.PODS)

    @property
    def vmi(self) -> JsonObject | None:
        """The VMI as it is now; None if it is gone."""
        return self._means.cache.by_uid(objects.uid(self._vmi))

    @property
    def state(self) -> dict[str, Any]:
        """MigrationState as it is now; empty if it names another migration, or the VMI is gone."""
        state = objects.migration_state(self.vmi or {})
        return state if state.get("migrationUid") == self.uid else {}

    @property
    def is_over(self) -> bool:
        """Whether nobody is to go on with it: it failed, or there is nothing left to move."""
        vmi = self.vmi
        return (
            vmi is None
            or objects.is_final(vmi)
            or objects.deleting(vmi)
            or not self.state
            or bool(self.state.get("failed"))
        )

    @property
    def abort_requested(self) -> bool:
        """Whether the user cancelled it."""
        return bool(self.state.get("abortRequested"))

    def may_begin(self, step: Step) -> bool:
        """Return whether a step may be begun, as far as holding goes."""
        vmim = self._means.cache.by_uid(self.uid)
        return timeline.may_begin(step, vmim)

    def pod(self, field: str) -> JsonObject | None:
        """Return a pod of it, ``sourcePod`` or ``targetPod``; None if it is gone."""
        namespace = objects.namespace(self._vmi)
        name = str(self.state.get(field))
        return self._means.cache.get(Collection.PODS, namespace, name)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so."""
        await self._means.cache.until(lambda: bool(condition()))

    async def tell(self, step: Step, change: Callable[[datetime], JsonObject]) -> bool:
        """Take a step that is an update of the VMI, as soon as it may be taken.

        Returns:
            Whether it was taken: not if the migration is over.
        """
        await self.until(lambda: self.is_over or self.may_begin(step))
        taken = await self.report(change)
        if taken:
            await self.reached(step)
        return taken

    async def report(self, change: Callable[[datetime], JsonObject]) -> bool:
        """Change the VMI, if the migration is not over."""
        now = self._means.clock.now()
        return await self._means.writer.change(
            Collection.VMIS,
            self._vmi,
            lambda vmi: None if self.is_over else change(now),
        )

    async def reached(self, step: Step) -> None:
        """Say that the migration is held, if this is the step to hold it at."""
        vmim = self._means.cache.by_uid(self.uid)
        if vmim is None:
            return
        await self._means.writer.change(
            Collection.VMIMS,
            vmim,
            lambda vmim: timeline.held_at(step) if timeline.hold_of(vmim) is step else None,
        )
