"""Recorded and typed time-lines of migrations, as events of the service's cluster port."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from kubectl_vmredir.model import MigrationUid, MigrationView, VmimView, VmiRef, VmiUid, VmiView
from kubectl_vmredir.service.ports import (
    ClusterEvent,
    VmiGone,
    VmimGone,
    VmimSeen,
    VmiSeen,
)

TRACES: Final = Path(__file__).parent.parent / "data" / "traces"
RECORDED: Final = tuple(sorted(path.stem for path in TRACES.glob("*.jsonl")))


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a time-line; ``at_s`` counts from the first sight of the migration."""

    at_s: float
    event: ClusterEvent


@functools.cache
def recorded(name: str) -> list[Step]:
    """Return the recorded trace of that name."""
    lines = (TRACES / f"{name}.jsonl").read_text().splitlines()
    return [_step(json.loads(line)) for line in lines]


def _step(line: dict[str, Any]) -> Step:
    gone = line["type"] == "DELETED"
    if line["object"]["kind"] == "VirtualMachineInstance":
        vmi = _vmi(line["object"])
        return Step(line["t_s"], VmiGone(vmi) if gone else VmiSeen(vmi))
    vmim = _vmim(line["object"])
    return Step(line["t_s"], VmimGone(vmim) if gone else VmimSeen(vmim))


def _vmi(item: dict[str, Any]) -> VmiView:
    metadata, status = item["metadata"], item["status"]
    state = status.get("migrationState")
    return VmiView(
        ref=VmiRef(metadata["namespace"], metadata["name"]),
        uid=VmiUid(metadata["uid"]),
        phase=status["phase"],
        node=status["nodeName"],
        client_passthrough=True,
        slots=("usb0", "usb1", "usb2", "usb3"),
        migration=state and _migration(state),
    )


def _migration(state: dict[str, Any]) -> MigrationView:
    return MigrationView(
        uid=MigrationUid(state["migrationUid"]),
        source_node=state.get("sourceNode", ""),
        target_node=state.get("targetNode", ""),
        start_timestamp=state.get("startTimestamp", ""),
        target_domain_detected=state.get("targetNodeDomainDetected", False),
        target_domain_ready_timestamp=state.get("targetNodeDomainReadyTimestamp", ""),
        end_timestamp=state.get("endTimestamp", ""),
        mode=state.get("mode", ""),
        completed=state.get("completed", False),
        failed=state.get("failed", False),
        abort_requested=state.get("abortRequested", False),
        abort_status=state.get("abortStatus", ""),
        failure_reason=state.get("failureReason", ""),
    )


def _vmim(item: dict[str, Any]) -> VmimView:
    metadata = item["metadata"]
    return VmimView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=MigrationUid(metadata["uid"]),
        vmi_name=item["spec"]["vmiName"],
        phase=item.get("status", {}).get("phase", ""),
        deleting="deletionTimestamp" in metadata,
    )


def old_dialect() -> list[Step]:
    """Return a migration as KubeVirt up to 1.5 tells it, typed from docs/facts/kubevirt.md.

    The source's virt-handler sets nodeName and completed in one update, once it has seen
    targetNodeDomainReadyTimestamp.
    """
    uid = MigrationUid("5d4e7a4c-old")
    ref = VmiRef("demo", "old")
    before = VmiView(
        ref,
        VmiUid("vmi-old"),
        phase="Running",
        node="node1",
        client_passthrough=True,
        slots=("usb0", "usb1", "usb2", "usb3"),
    )
    handed_off = MigrationView(uid, source_node="node1", target_node="node2")
    copying = replace(handed_off, start_timestamp="2026-11-23T08:43:13Z", mode="PreCopy")
    detected = replace(copying, target_domain_detected=True)
    ready = replace(detected, target_domain_ready_timestamp="2026-11-23T08:43:14Z")
    done = replace(ready, completed=True, end_timestamp="2026-11-23T08:43:15Z")

    def vmi(migration: MigrationView, node: str = "node1") -> VmiSeen:
        return VmiSeen(replace(before, migration=migration, node=node))

    def vmim(phase: str) -> VmimSeen:
        return VmimSeen(VmimView("demo", "kubevirt-migrate-vm-old", uid, "old", phase))

    return [
        Step(-1.0, VmiSeen(before)),
        Step(0.0, vmim("")),
        Step(0.02, vmim("Pending")),
        Step(0.1, vmim("Scheduling")),
        Step(0.3, vmim("Scheduled")),
        Step(0.35, vmi(handed_off)),
        Step(0.36, vmim("PreparingTarget")),
        Step(0.45, vmim("TargetReady")),
        Step(0.5, vmi(copying)),
        Step(0.51, vmim("Running")),
        Step(0.7, vmi(detected)),
        Step(1.2, vmi(ready)),
        Step(1.5, vmi(done, "node2")),
        Step(1.6, vmim("Succeeded")),
    ]


def ref_of(steps: list[Step]) -> VmiRef:
    """Return the VMI that a time-line is about."""
    first = steps[0].event
    assert isinstance(first, VmiSeen)
    return first.vmi.ref


def named(name: str) -> list[Step]:
    """Return the recorded trace of that name, or the typed one, ``old-dialect``."""
    return old_dialect() if name == "old-dialect" else recorded(name)


ALL: Final = (*RECORDED, "old-dialect")
