"""Recorded and typed time-lines of migrations, as events of the service's cluster port."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
