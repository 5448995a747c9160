"""Controller of VirtualMachineInstanceMigrations: their phases, and the hand-off to the nodes.

Source: KubeVirt, pkg/virt-controller/watch/migration/migration.go; the order of the writes is that
of the recorded traces.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab import objects, timeline
from kubectl_vmredir.lab.clock import parse_rfc3339, rfc3339
from kubectl_vmredir.lab.controllers import pods as rendered
from kubectl_vmredir.lab.controllers.writes import (
    AskAgain,
    Create,
    Delete,
    Patch,
    Wish,
    Write,
    phase_change,
    without_finalizers,
)
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.timeline import Step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from kubectl_vmredir.k8s.objects import JsonObject

UNSCHEDULABLE_TIMEOUT_S: Final = 300
KEPT_FINISHED: Final = 5
"""So many finished migrations of a VMI stay (defaultFinalizedMigrationGarbageCollectionBuffer)."""

_UNSCHEDULABLE_TIMEOUT: Final = "kubevirt.io/migrationUnschedulablePodTimeoutSeconds"
_NONROOT: Final = "kubevirt.io/nonroot"
_TARGET_READY: Final = "kubevirt.io/migration-target-ready-timestamp"
_OBSERVED: Final = {
    "kubevirt.io/latest-observed-api-version": "v1",
    "kubevirt.io/storage-observed-api-version": "v1",
}
_ABORT_REQUESTED: Final = "migrationAbortRequested"


def decide(
    vmim: JsonObject,
    vmi: JsonObject | None,
    pods: Sequence[JsonObject],
    siblings: Sequence[JsonObject],
    now: datetime,
) -> Wish | None:
    """Return what is due for a migration.

    Args:
        vmim: The migration.
        vmi: The VMI that it names, if there is one.
        pods: All launcher pods of that VMI.
        siblings: All migrations of that VMI.
        now: Time of day.
    """
    if vmi is None:
        return _orphaned(vmim)
    if write := _adopted(vmim) or _let_go(vmim):
        return write
    return _Migration(vmim, vmi, pods, siblings, now).due() or _held(vmim, vmi)


def _orphaned(vmim: JsonObject) -> Write | None:
    if not objects.deleting(vmim):
        return Delete(Collection.VMIMS, vmim)
    return without_finalizers(Collection.VMIMS, vmim)


def _adopted(vmim: JsonObject) -> Write | None:
    """Mark a migration as seen, once; a cluster without webhooks has not given it a finalizer."""
    if objects.phase(vmim) or objects.annotation(vmim, next(iter(_OBSERVED))):
        return None
    metadata: JsonObject = {
        "annotations": _OBSERVED,
        "labels": {objects.VMI_NAME: objects.spec(vmim)["vmiName"]},
    }
    if not objects.deleting(vmim):
        metadata["finalizers"] = [objects.VMIM_FINALIZER]
    return Patch(Collection.VMIMS, vmim, {"metadata": metadata})


def _let_go(vmim: JsonObject) -> Write | None:
    """Take the word away that a migration is held, when it no longer is."""
    held = objects.annotation(vmim, timeline.HELD_AT)
    if held is None or held == timeline.hold_of(vmim):
        return None
    return Patch(Collection.VMIMS, vmim, timeline.held_at(None))


def _held(vmim: JsonObject, vmi: JsonObject) -> Write | None:
    """Say that a migration is held at one of the steps that this controller takes."""
    hold = timeline.hold_of(vmim)
    handed_off = objects.migration_state(vmi).get("migrationUid") == objects.uid(vmim)
    reached = Step.HANDED_OFF if handed_off else _STEPS.get(objects.phase(vmim))
    if hold is None or hold is not reached or objects.annotation(vmim, timeline.HELD_AT) == hold:
        return None
    return Patch(Collection.VMIMS, vmim, timeline.held_at(hold))


_STEPS: Final = {
    "Pending": Step.PENDING,
    "Scheduling": Step.SCHEDULING,
    "Scheduled": Step.SCHEDULED,
}


class _Migration:
    """One migration, and all that its fate depends on."""

    def __init__(
        self,
        vmim: JsonObject,
        vmi: JsonObject,
        pods: Sequence[JsonObject],
        siblings: Sequence[JsonObject],
        now: datetime,
    ) -> None:
        self._vmim, self._vmi, self._siblings, self._now = vmim, vmi, siblings, now
        uid = objects.uid(vmim)
        self._pods = pods
        self._target = next(
            (pod for pod in pods if objects.label(pod, objects.MIGRATION_JOB_UID) == uid), None
        )
        state = objects.migration_state(vmi)
        self._state = state if state.get("migrationUid") == uid else {}
        self._phase = objects.phase(vmim)

    def due(self) -> Wish | None:
        """Return what is due."""
        if objects.is_final(self._vmim):
            return self._finished()
        if objects.is_final(self._vmi) or objects.deleting(self._vmi):
            return self._enter("Failed")
        if objects.deleting(self._vmim) and not self._state:
            return self._cancelled_early()
        if self._target is None and self._phase not in ("", "Pending"):
            return self._target_lost()
        if self._target is not None and objects.is_final(self._target):
            return self._target_lost()
        if objects.deleting(self._vmim) and (write := self._cancelled()):
            return write
        if self._state.get("failed"):
            return self._enter("Failed")
        return self._next_phase()

    # -- going on -----------------------------------------------------------------------------

    def _next_phase(self) -> Wish | None:
        match self._phase:
            case "":
                return self._enter("Pending" if self._may_migrate() else "Failed")
            case "Pending" if self._may_begin(Step.SCHEDULING):
                return self._pending()
            case "Scheduling":
                return self._scheduling()
            case "Scheduled" if self._state:
                return self._enter("PreparingTarget")
            case "Scheduled" if self._may_begin(Step.HANDED_OFF):
                return self._hand_off()
            case "PreparingTarget" if self._state.get("targetNodeAddress"):
                return self._enter("TargetReady")
            case "TargetReady" if self._state.get("startTimestamp"):
                return self._enter("Running")
            case "Running":
                return self._running()
            case _:
                return None

    def _may_begin(self, step: Step) -> bool:
        return timeline.may_begin(step, self._vmim)

    def _may_migrate(self) -> bool:
        """Return whether no other migration has the VMI."""
        holder = objects.migration_state(self._vmi).get("migrationUid")
        return holder == objects.uid(self._vmim) or all(
            objects.is_final(sibling)
            for sibling in self._siblings
            if objects.uid(sibling) == holder
        )

    def _pending(self) -> Write | None:
        if self._target is not None:
            return self._enter("Scheduling")
        if objects.annotation(self._vmi, _NONROOT) is None:
            change = {"metadata": {"annotations": {_NONROOT: "true"}}}
            return Patch(Collection.VMIS, self._vmi, change)
        alive = sum(not objects.is_final(pod) for pod in self._pods)
        if objects.phase(self._vmi) != "Running" or alive > 1 or not self._may_migrate():
            return None
        return Create(Collection.PODS, rendered.target(self._vmi, self._vmim))

    def _scheduling(self) -> Wish | None:
        assert self._target is not None
        if objects.is_ready(self._target):
            return self._enter("Scheduled") if self._may_begin(Step.SCHEDULED) else None
        refused = objects.condition(self._target, "PodScheduled").get("reason") == "Unschedulable"
        if not refused or objects.deleting(self._target):
            return None
        limit_s = objects.annotation(self._vmim, _UNSCHEDULABLE_TIMEOUT) or UNSCHEDULABLE_TIMEOUT_S
        created = parse_rfc3339(self._target["metadata"]["creationTimestamp"])
        deadline = created + timedelta(seconds=int(limit_s))
        if self._now < deadline:
            return AskAgain(deadline)
        return Delete(Collection.PODS, self._target)

    def _hand_off(self) -> Write:
        assert self._target is not None
        change = timeline.handed_off(
            objects.migration_state(self._vmi),
            migration_uid=objects.uid(self._vmim),
            source_node=objects.status(self._vmi)["nodeName"],
            source_pod=objects.status(self._vmim)["migrationState"]["sourcePod"],
            target_node=objects.spec(self._target)["nodeName"],
            target_pod=objects.name(self._target),
        )
        return Patch(Collection.VMIS, self._vmi, change)

    def _running(self) -> Write | None:
        ready = self._state.get("targetNodeDomainReadyTimestamp")
        assert self._target is not None
        if ready and objects.annotation(self._target, _TARGET_READY) is None:
            change = {"metadata": {"annotations": {_TARGET_READY: ready}}}
            return Patch(Collection.PODS, self._target, change)
        return self._enter("Succeeded") if self._state.get("completed") else None

    # -- coming to an end ---------------------------------------------------------------------

    def _cancelled_early(self) -> Write:
        """Nothing is handed off: the target pod goes, and the VMI never hears of it."""
        if self._target is not None and not objects.deleting(self._target):
            return Delete(Collection.PODS, self._target)
        status = phase_change(self._vmim, "Failed", self._now) | self._abort_condition()
        return self._patch(status)

    def _cancelled(self) -> Write | None:
        """The nodes have it: only a migration that runs can be aborted, an earlier one goes on."""
        over = self._state.get("abortRequested") or self._state.get("completed")
        if self._phase == "Running" and not over:
            return Patch(Collection.VMIS, self._vmi, timeline.abort_requested())
        if objects.condition(self._vmim, _ABORT_REQUESTED):
            return None
        return self._patch(self._abort_condition())

    def _abort_condition(self) -> JsonObject:
        condition = {
            "type": _ABORT_REQUESTED,
            "status": "True",
            "lastProbeTime": rfc3339(self._now),
            "lastTransitionTime": None,
        }
        return {"conditions": [*(objects.status(self._vmim).get("conditions") or ()), condition]}

    def _target_lost(self) -> Write:
        """The target pod has ended, or is gone; if no node had begun, nobody else tells the VMI."""
        state = self._state
        untouched = not any(
            state.get(field)
            for field in ("targetDirectMigrationNodePorts", "startTimestamp", "completed")
        )
        if state and untouched:
            return Patch(Collection.VMIS, self._vmi, timeline.never_started(self._now))
        return self._enter("Failed")

    def _finished(self) -> Write | None:
        if self._state and objects.status(self._vmim).get("migrationState") != self._state:
            return self._patch({"migrationState": self._state})
        if write := without_finalizers(Collection.VMIMS, self._vmim):
            return write
        finished = [
            sibling
            for sibling in sorted(self._siblings, key=_age)
            if objects.is_final(sibling) and not objects.deleting(sibling)
        ]
        if self._vmim in finished[:-KEPT_FINISHED]:
            return Delete(Collection.VMIMS, self._vmim)
        return None

    # -- writing ------------------------------------------------------------------------------

    def _enter(self, phase: str) -> Patch:
        status = phase_change(self._vmim, phase, self._now)
        # At first, or when the VMI, which was only starting then, has a pod that runs.
        named = "migrationState" in objects.status(self._vmim)
        if not named and (source := self._source_pod()):
            status["migrationState"] = {"sourcePod": source}
        return self._patch(status)

    def _patch(self, status: JsonObject) -> Patch:
        return Patch(Collection.VMIMS, self._vmim, {"status": status}, "status")

    def _source_pod(self) -> str:
        node = objects.status(self._vmi).get("nodeName")
        return next(
            (
                objects.name(pod)
                for pod in self._pods
                if objects.spec(pod).get("nodeName") == node and not objects.is_final(pod)
            ),
            "",
        )


def _age(vmim: JsonObject) -> tuple[str, int]:
    return vmim["metadata"]["creationTimestamp"], int(objects.version(vmim))
