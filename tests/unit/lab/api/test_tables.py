from __future__ import annotations

import pytest

from kubectl_vmredir.lab.api.objects import Json, timestamp
from kubectl_vmredir.lab.api.resources import EVENTS, NODES, PODS, VMIMS, VMIS, Resource
from kubectl_vmredir.lab.api.tables import columns, human_duration, json_path, row

# k8s.io/apimachinery/pkg/util/duration, TestHumanDuration.
DURATIONS = [
    (0, "0s"),
    (1, "1s"),
    (70, "70s"),
    (119, "119s"),
    (190, "3m10s"),
    (600, "10m"),
    (3 * 3600 - 1, "179m"),
    (3 * 3600 + 5 * 60, "3h5m"),
    (8 * 3600, "8h"),
    (47 * 3600, "47h"),
    (49 * 3600, "2d1h"),
    (4 * 86400 + 2 * 3600, "4d2h"),
    (8 * 86400 + 2 * 3600, "8d"),
    (2 * 365 * 86400 + 25 * 3600, "2y1d"),
    (8 * 365 * 86400, "8y"),
    (-1, "0s"),
    (-5, "<invalid>"),
]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_ages_are_written_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


VMI: Json = {
    "metadata": {"name": "fedora"},
    "status": {
        "phase": "Running",
        "nodeName": "node1",
        "interfaces": [{"ipAddress": "10.0.2.2"}],
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Paused", "status": "False"}],
    },
}

PATHS = [
    (".status.phase", "Running"),
    (".status.interfaces[0].ipAddress", "10.0.2.2"),
    (".status.interfaces[1].ipAddress", None),
    (".status.conditions[?(@.type=='Paused')].status", "False"),
    (".status.conditions[?(@.type=='LiveMigratable')].status", None),
    (".status.phase.nothing", None),
    (".spec.nothing", None),
]


@pytest.mark.parametrize(("path", "value"), PATHS)
def test_json_paths_of_the_crds(path: str, value: str | None) -> None:
    assert json_path(path)(VMI) == value


def test_columns_of_a_vmi_are_those_of_its_crd() -> None:
    shown = [(column.name, column.priority) for column in columns(VMIS)]

    assert shown == [
        ("Name", 0),
        ("Age", 0),
        ("Phase", 0),
        ("IP", 0),
        ("NodeName", 0),
        ("Ready", 0),
        ("Live-Migratable", 1),
        ("Paused", 1),
    ]
    assert row(VMIS, VMI, "None")["cells"] == [
        "fedora", "<unknown>", "Running", "10.0.2.2", "node1", "True", None, "False",
    ]  # fmt: skip


def test_a_row_carries_what_is_asked_for() -> None:
    vmim: Json = {"metadata": {"name": "move"}, "spec": {"vmiName": "fedora"}}

    assert row(VMIMS, vmim, "None") == {"cells": ["move", None, "fedora"], "object": None}
    assert row(VMIMS, vmim, "Object")["object"] == vmim
    assert row(VMIMS, vmim, "")["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"name": "move"},
    }


def running(**more: object) -> Json:
    return {"name": "compute", "ready": True, "restartCount": 2, "state": {"running": {}}, **more}


ROWS: list[tuple[Resource, Json, dict[str, str]]] = [
    (
        PODS,
        {
            "metadata": {"name": "p"},
            "spec": {"nodeName": "node1", "containers": [{}, {}]},
            "status": {
                "phase": "Running",
                "podIP": "10.0.0.1",
                "containerStatuses": [running(), running(ready=False)],
            },
        },
        {"Ready": "1/2", "Status": "Running", "Restarts": "4", "IP": "10.0.0.1", "Node": "node1"},
    ),
    (
        PODS,
        {
            "metadata": {"name": "p"},
            "spec": {"containers": [{}]},
            "status": {
                "phase": "Succeeded",
                "containerStatuses": [
                    {"ready": False, "state": {"terminated": {"reason": "Completed"}}}
                ],
            },
        },
        {"Ready": "0/1", "Status": "Completed", "Node": "<none>"},
    ),
    (
        PODS,
        {
            "metadata": {"name": "p", "deletionTimestamp": timestamp()},
            "status": {"phase": "Running"},
        },
        {"Ready": "0/0", "Status": "Terminating"},
    ),
    (
        NODES,
        {
            "metadata": {"name": "node1", "labels": {"node-role.kubernetes.io/worker": ""}},
            "spec": {"unschedulable": True},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.3"},
            },
        },
        {
            "Status": "Ready,SchedulingDisabled",
            "Roles": "worker",
            "Version": "v1.36.3",
            "Internal-IP": "127.0.0.1",
            "External-IP": "<none>",
            "OS-Image": "<unknown>",
        },
    ),
    (
        NODES,
        {"metadata": {"name": "node1"}, "status": {}},
        {"Status": "Unknown", "Roles": "<none>", "Version": ""},
    ),
    (
        EVENTS,
        {
            "metadata": {"name": "e", "creationTimestamp": timestamp()},
            "type": "Normal",
            "reason": "Migrated",
            "message": "moved ",
            "involvedObject": {"kind": "VirtualMachineInstance", "name": "fedora"},
            "source": {"component": "virt-handler", "host": "node1"},
        },
        {
            "Object": "virtualmachineinstance/fedora",
            "Source": "virt-handler, node1",
            "Message": "moved",
            "Count": "1",
        },
    ),
]


@pytest.mark.parametrize(("resource", "obj", "wanted"), ROWS)
def test_cells(resource: Resource, obj: Json, wanted: dict[str, str]) -> None:
    cells = row(resource, obj, "None")["cells"]
    shown = {column.name: cell for column, cell in zip(columns(resource), cells, strict=True)}

    assert {name: shown[name] for name in wanted} == wanted
