"""The time-line of a live migration: its steps, what each writes, and how it is held at one.

Source: docs/facts/kubevirt.md and the recorded traces; the order of the fields is that
of KubeVirt >= 1.6, or of <= 1.5 where it says so. Changes are merge patches of the VMI.

A migration is held by the annotation ``lab.vmredir.io/hold-at`` of its
VirtualMachineInstanceMigration, which names a step. The step is reached, whoever reached it says so
with ``lab.vmredir.io/held-at``, and no later step is begun before hold-at is changed or removed.
Failing and being cancelled are not steps: they happen to a held migration as to any other, but
KubeVirt cannot cancel what is handed off and has not started, held or not.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.clock import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from kubectl_vmredir.k8s.objects import JsonObject

HOLD_AT: Final = "lab.vmredir.io/hold-at"
HELD_AT: Final = "lab.vmredir.io/held-at"

MIN_NODE_NAME_GAP_S: Final = 0.1
"""From the end of the source's guest to the update of ``status.nodeName``: the default, and the
least that a lab can be asked for. In real clusters it is 0.05 to 18 s."""

ABORTED_REASON: Final = "Live migration has been aborted"
MEMORY_OVERHEAD: Final = "295040Ki"

_CONFIGURATION: Final = {
    "allowAutoConverge": False,
    "allowPostCopy": False,
    "allowWorkloadDisruption": False,
    "bandwidthPerMigration": "0",
    "completionTimeoutPerGiB": 150,
    "maxDowntimeMs": 900,
    "nodeDrainTaintKey": "kubevirt.io/drain",
    "parallelMigrationsPerCluster": 5,
    "parallelOutboundMigrationsPerNode": 2,
    "progressTimeout": 150,
    "unsafeMigrationOverride": False,
    "utilityVolumesTimeout": 150,
}
_PORTS: Final = {"40000": 0, "40001": 49152}
"""As virt-handler's migration proxy publishes them; the lab's guests find each other without."""


class Dialect(enum.StrEnum):
    """Who ends a migration, and in how many updates."""

    TARGET_ACKS = "1.6"
    """KubeVirt >= 1.6: the target's virt-handler; nodeName first, completed later."""
    SOURCE_ACKS = "1.5"
    """KubeVirt <= 1.5: the source's virt-handler; nodeName and completed in one update."""


class Step(enum.StrEnum):
    """The steps, in order; each is reached when what its text says is true."""

    PENDING = "pending"
    """Phase of the migration object."""
    SCHEDULING = "scheduling"
    """Phase of the migration object; the target pod exists."""
    SCHEDULED = "scheduled"
    """Phase of the migration object; the target pod is ready."""
    HANDED_OFF = "handed-off"
    """The VMI has a fresh migrationState and the label migrationTargetNodeName."""
    PREPARED = "prepared"
    """targetNodeAddress and targetDirectMigrationNodePorts are set."""
    STARTED = "started"
    """startTimestamp is set, mode is PreCopy; no guest on the target yet."""
    DETECTED = "detected"
    """The target's guest listens on its sockets, targetNodeDomainDetected is set; no copy yet."""
    PRE_SWITCHOVER = "pre-switchover"
    """The memory is copied, the guest stands still on the source."""
    TARGET_RUNNING = "target-running"
    """The guest runs on the target; no field tells it yet, the source's streams are open."""
    DOMAIN_READY = "domain-ready"
    """targetNodeDomainReadyTimestamp is set; the source's streams are open still."""
    SOURCE_GONE = "source-gone"
    """The source's guest has ended, and its streams with it; nodeName is the source's still."""
    NODE_FLIPPED = "node-flipped"
    """endTimestamp, label nodeName and status.nodeName have changed, in one update."""
    COMPLETED = "completed"
    """migrationState.completed is set."""
    CLEANED_UP = "cleaned-up"
    """The label migrationTargetNodeName is gone."""


_ORDER: Final = {step: place for place, step in enumerate(Step)}


def hold_of(vmim: JsonObject | None) -> Step | None:
    """Return where a migration is to be held; None for nowhere, and for a word that is no step."""
    wanted = objects.annotation(vmim, HOLD_AT) if vmim is not None else None
    return Step(wanted) if wanted in _ORDER else None


def may_begin(step: Step, vmim: JsonObject | None) -> bool:
    """Return whether a step may be begun, as far as holding goes."""
    hold = hold_of(vmim)
    return hold is None or _ORDER[step] <= _ORDER[hold]


def held_at(step: Step | None) -> JsonObject:
    """Return the change of a migration object that says where it is held; None for nowhere."""
    return {"metadata": {"annotations": {HELD_AT: step}}}


def handed_off(
    old_state: Mapping[str, object],
    *,
    migration_uid: str,
    source_node: str,
    source_pod: str,
    target_node: str,
    target_pod: str,
) -> JsonObject:
    """Return the change that hands a migration off to the nodes.

    Args:
        old_state: migrationState of the migration before, which is replaced whole.
        migration_uid: UID of the migration object.
        source_node: Where the VMI runs.
        source_pod: Name of its pod.
        target_node: Where it goes.
        target_pod: Name of the pod there.
    """
    state = dict.fromkeys(old_state) | {
        "migrationUid": migration_uid,
        "sourceNode": source_node,
        "sourcePod": source_pod,
        "targetNode": target_node,
        "targetPod": target_pod,
        "targetMemoryOverhead": MEMORY_OVERHEAD,
        "migrationConfiguration": _CONFIGURATION,
    }
    return _state(state, labels={objects.TARGET_NODE_NAME: target_node})


def prepared(address: str) -> JsonObject:
    """Return the change of a target that waits for the source, at that IP address."""
    return _state({"targetNodeAddress": address, "targetDirectMigrationNodePorts": _PORTS})


def started(now: datetime) -> JsonObject:
    """Return the change of a source that begins."""
    return _state({"startTimestamp": rfc3339(now), "mode": "PreCopy"})


def detected() -> JsonObject:
    """Return the change of a target whose guest listens."""
    return _state({"targetNodeDomainDetected": True})


def domain_ready(now: datetime) -> JsonObject:
    """Return the change of a target whose guest runs."""
    return _state({"targetNodeDomainReadyTimestamp": rfc3339(now)})


def node_flipped(node: str, now: datetime, *, completed: bool = False) -> JsonObject:
    """Return the change that moves the VMI to another node.

    Args:
        node: The target.
        now: When the migration ended.
        completed: Whether the same update completes it, as that of KubeVirt <= 1.5.
    """
    change = _state(
        {"endTimestamp": rfc3339(now)} | ({"completed": True} if completed else {}),
        labels={objects.NODE_NAME: node},
    )
    change["status"] |= {
        "nodeName": node,
        "evacuationNodeName": None,
        "launcherContainerImageVersion": None,
        "migrationTransport": "Unix",
    }
    return change


def completed() -> JsonObject:
    """Return the change of a target that has done all."""
    return _state({"completed": True})


def cleaned_up() -> JsonObject:
    """Return the change that ends the target's interest in the VMI, however the migration ended."""
    return {"metadata": {"labels": {objects.TARGET_NODE_NAME: None}}}


def failed(now: datetime, reason: str) -> JsonObject:
    """Return the change of a source whose migration failed."""
    return _state(
        {
            "completed": True,
            "failed": True,
            "endTimestamp": rfc3339(now),
            "failureReason": f"virError(Code=9, Domain=10, Message='operation failed: "
            f"job 'migration out' failed: {reason}')",
        }
    )


def aborted(now: datetime) -> JsonObject:
    """Return the change of a source whose migration was cancelled."""
    return _state(
        {
            "abortStatus": "Succeeded",
            "completed": True,
            "failed": True,
            "endTimestamp": rfc3339(now),
            "failureReason": ABORTED_REASON,
        }
    )


def abort_refused() -> JsonObject:
    """Return the change of a source that was asked to cancel too late."""
    return _state({"abortStatus": "Failed"})


def abort_requested() -> JsonObject:
    """Return the change that asks the source to cancel."""
    return _state({"abortRequested": True})


def never_started(now: datetime) -> JsonObject:
    """Return the change for a target pod that ended before a node had begun."""
    return _state(
        {
            "startTimestamp": rfc3339(now),
            "endTimestamp": rfc3339(now),
            "failed": True,
            "completed": True,
        }
    )


def _state(
    state: Mapping[str, object], *, labels: Mapping[str, str | None] | None = None
) -> JsonObject:
    change: JsonObject = {"status": {"migrationState": dict(state)}}
    if labels:
        change["metadata"] = {"labels": dict(labels)}
    return change
