"""The Table form of objects: what ``kubectl get`` shows.

Columns of custom resources are the additionalPrinterColumns of KubeVirt's CRDs, those of the
others follow k8s.io/kubernetes/pkg/printers/internalversion.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .objects import Json, dig, metadata, parse_timestamp
from .resources import (
    EVENTS,
    KUBEVIRTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    VMIMS,
    VMIS,
    VMS,
    Resource,
)

NONE: Final = "<none>"
UNKNOWN: Final = "<unknown>"

Cell = Callable[[Json], Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: Its title.
        cell: Returns what an object shows in it.
        type: ``string``, ``date`` or ``integer``.
        description: What it says.
        priority: 0 is always shown, 1 with ``-o wide``.
        format: ``name`` for the name of the object.
    """

    name: str
    cell: Cell
    type: str = "string"
    description: str = ""
    priority: int = 0
    format: str = ""

    def definition(self) -> Json:
        """Return the TableColumnDefinition."""
        return {
            "name": self.name,
            "type": self.type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        }


def human_duration(seconds: float) -> str:
    """Return a duration as kubectl shows ages; k8s.io/apimachinery/pkg/util/duration."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    minute, hour, day, year = 60, 3600, 86400, 365 * 86400
    for limit, big, small, letters in (
        (2 * minute, 1, 0, "s"),
        (10 * minute, minute, 1, "ms"),
        (3 * hour, minute, 0, "m"),
        (8 * hour, hour, minute, "hm"),
        (2 * day, hour, 0, "h"),
        (8 * day, day, hour, "dh"),
        (2 * year, day, 0, "d"),
        (8 * year, year, day, "yd"),
    ):
        if whole < limit:
            text = f"{whole // big}{letters[0]}"
            rest = whole % big // small if small else 0
            return f"{text}{rest}{letters[1]}" if rest else text
    return f"{whole // year}y"


def age(text: str | None) -> str:
    """Return how long ago a timestamp was."""
    if not text:
        return UNKNOWN
    return human_duration((dt.datetime.now(dt.UTC) - parse_timestamp(text)).total_seconds())


_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]|\[\?\(@\.(\w+)=='([^']*)'\)\]")


def json_path(path: str) -> Cell:
    """Return a cell that reads a JSONPath, as far as the CRDs of KubeVirt need it."""
    steps = [found.groups() for found in _STEP.finditer(path)]

    def cell(obj: Json) -> Any:  # noqa: ANN401 - JSON
        value: Any = obj
        for field, index, key, wanted in steps:
            if field:
                value = value.get(field) if isinstance(value, dict) else None
            elif not isinstance(value, list):
                return None
            elif index:
                value = value[int(index)] if int(index) < len(value) else None
            else:
                value = next((each for each in value if each.get(key) == wanted), None)
        return value

    return cell


def _custom(
    name: str, path: str, *, type_: str = "string", priority: int = 0, description: str = ""
) -> Column:
    read = json_path(path)
    cell: Cell = (lambda obj: age(read(obj))) if type_ == "date" else read
    said = description or f"Custom resource definition column (in JSONPath format): {path}"
    return Column(name, cell, type_, said, priority)


_NAME: Final = Column(
    "Name", lambda obj: metadata(obj).get("name", ""), description="Name of the object.",
    format="name",
)  # fmt: skip
_AGE: Final = Column(
    "Age", lambda obj: age(metadata(obj).get("creationTimestamp")),
    description="Time since the object was created.",
)  # fmt: skip
_CUSTOM_AGE: Final = _custom("Age", ".metadata.creationTimestamp", type_="date")


def _ready_containers(pod: Json) -> str:
    statuses = dig(pod, "status", "containerStatuses") or []
    total = len(dig(pod, "spec", "containers") or [])
    return f"{sum(bool(status.get('ready')) for status in statuses)}/{total}"


def _pod_status(pod: Json) -> str:
    said = dig(pod, "status", "reason") or dig(pod, "status", "phase") or ""
    for status in reversed(dig(pod, "status", "containerStatuses") or []):
        state = status.get("state") or {}
        for kind in ("waiting", "terminated"):
            if reason := dig(state, kind, "reason"):
                said = reason
    return "Terminating" if metadata(pod).get("deletionTimestamp") else said


def _restarts(pod: Json) -> str:
    statuses = dig(pod, "status", "containerStatuses") or []
    return str(sum(status.get("restartCount", 0) for status in statuses))


def _node_status(node: Json) -> str:
    ready = json_path(".status.conditions[?(@.type=='Ready')].status")(node)
    said = [{"True": "Ready", None: "Unknown"}.get(ready, "NotReady")]
    if dig(node, "spec", "unschedulable"):
        said.append("SchedulingDisabled")
    return ",".join(said)


def _node_roles(node: Json) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = metadata(node).get("labels") or {}
    roles = sorted(label.removeprefix(prefix) for label in labels if label.startswith(prefix))
    return ",".join(roles) or NONE


def _node_address(kind: str) -> Cell:
    read = json_path(f".status.addresses[?(@.type=='{kind}')].address")
    return lambda node: read(node) or NONE


def _node_info(key: str, missing: str = UNKNOWN) -> Cell:
    return lambda node: dig(node, "status", "nodeInfo", key) or missing


def _event_object(event: Json) -> str:
    involved = event.get("involvedObject") or {}
    return f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"


def _event_source(event: Json) -> str:
    source = event.get("source") or {}
    return ", ".join(filter(None, (source.get("component"), source.get("host"))))


_COLUMNS: Final[dict[Resource, tuple[Column, ...]]] = {
    VMS: (
        _NAME,
        _CUSTOM_AGE,
        _custom("Status", ".status.printableStatus", description="Human Readable Status"),
        _custom("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    ),
    VMIS: (
        _NAME,
        _CUSTOM_AGE,
        _custom("Phase", ".status.phase"),
        _custom("IP", ".status.interfaces[0].ipAddress"),
        _custom("NodeName", ".status.nodeName"),
        _custom("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        _custom(
            "Live-Migratable",
            ".status.conditions[?(@.type=='LiveMigratable')].status",
            priority=1,
        ),
        _custom("Paused", ".status.conditions[?(@.type=='Paused')].status", priority=1),
    ),
    VMIMS: (
        _NAME,
        _custom("Phase", ".status.phase", description="The current phase of VM instance migration"),
        _custom(
            "VMI", ".spec.vmiName", description="The name of the VMI to perform the migration on"
        ),
    ),
    KUBEVIRTS: (_NAME, _CUSTOM_AGE, _custom("Phase", ".status.phase")),
    NAMESPACES: (_NAME, Column("Status", lambda obj: dig(obj, "status", "phase")), _AGE),
    NODES: (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        _AGE,
        Column("Version", _node_info("kubeletVersion", "")),
        Column("Internal-IP", _node_address("InternalIP"), priority=1),
        Column("External-IP", _node_address("ExternalIP"), priority=1),
        Column("OS-Image", _node_info("osImage"), priority=1),
        Column("Kernel-Version", _node_info("kernelVersion"), priority=1),
        Column("Container-Runtime", _node_info("containerRuntimeVersion"), priority=1),
    ),
    PODS: (
        _NAME,
        Column("Ready", _ready_containers),
        Column("Status", _pod_status),
        Column("Restarts", _restarts),
        _AGE,
        Column("IP", lambda obj: dig(obj, "status", "podIP") or NONE, priority=1),
        Column("Node", lambda obj: dig(obj, "spec", "nodeName") or NONE, priority=1),
        Column("Nominated Node", lambda _: NONE, priority=1),
        Column("Readiness Gates", lambda _: NONE, priority=1),
    ),
    EVENTS: (
        Column(
            "Last Seen",
            lambda obj: age(obj.get("lastTimestamp") or metadata(obj).get("creationTimestamp")),
        ),
        Column("Type", lambda obj: obj.get("type", "")),
        Column("Reason", lambda obj: obj.get("reason", "")),
        Column("Object", _event_object),
        Column("Subobject", lambda obj: dig(obj, "involvedObject", "fieldPath") or "", priority=1),
        Column("Source", _event_source, priority=1),
        Column("Message", lambda obj: obj.get("message", "").strip()),
        Column("First Seen", lambda obj: age(obj.get("firstTimestamp")), priority=1),
        Column("Count", lambda obj: str(obj.get("count", 1)), priority=1),
        Column("Name", _NAME.cell, description=_NAME.description, priority=1, format="name"),
    ),
    LEASES: (_NAME, Column("Holder", lambda obj: dig(obj, "spec", "holderIdentity") or ""), _AGE),
}
_DEFAULT: Final = (_NAME, _AGE)


def columns(resource: Resource) -> tuple[Column, ...]:
    """Return the columns of a resource."""
    return _COLUMNS.get(resource, _DEFAULT)


def definitions(resource: Resource) -> list[Json]:
    """Return the columnDefinitions of a Table of a resource."""
    return [column.definition() for column in columns(resource)]


def row(resource: Resource, obj: Json, include: str) -> Json:
    """Return the row of an object.

    Args:
        resource: Its type.
        obj: The object.
        include: What goes along: ``Metadata`` (or empty), ``Object`` or ``None``.
    """
    carried: Json | None
    match include:
        case "None":
            carried = None
        case "Object":
            carried = obj
        case _:
            carried = partial(obj)
    return {"cells": [column.cell(obj) for column in columns(resource)], "object": carried}


def table(version: str, definitions_: list[Json] | None, rows: list[Json], **more: Any) -> Json:  # noqa: ANN401 - JSON
    """Return a Table; ``more`` goes into its metadata."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version, **more},
        "columnDefinitions": definitions_,
        "rows": rows,
    }


def partial(obj: Json) -> Json:
    """Return an object's PartialObjectMetadata."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata(obj),
    }
