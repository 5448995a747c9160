"""What a node says of itself, its pods and its VMIs; what kubelet and virt-handler write.

New objects are whole, changes are merge patches. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.clock import rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from kubectl_vmredir.k8s.objects import JsonObject

LOOPBACK: Final = "127.0.0.1"
"""The only address that a lab uses: of nodes, pods and guests."""

_HANDLER_CONTAINER: Final = {"name": objects.HANDLER, "image": "lab/virt-handler"}


def node(name: str) -> JsonObject:
    """Return a Node that takes VMs."""
    labels = {
        objects.HOSTNAME: name,
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/os": "linux",
        "kubevirt.io/schedulable": "true",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


def node_ready(now: datetime) -> JsonObject:
    """Return the status of a Node that is up."""
    addresses = [{"type": "InternalIP", "address": LOOPBACK}]
    conditions = [_condition("Ready", now, reason="KubeletReady")]
    info = {"architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": "v1.36.3"}
    return {"status": {"addresses": addresses, "conditions": conditions, "nodeInfo": info}}


def handler_pod(node_name: str, port: int) -> JsonObject:
    """Return the virt-handler pod of a node, by which the API server finds its streams."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{objects.HANDLER}-{node_name}",
            "namespace": objects.KUBEVIRT_NAMESPACE,
            "labels": {objects.APP: objects.HANDLER},
            "annotations": {objects.LAB_PORT: str(port)},
        },
        "spec": {"nodeName": node_name, "containers": [_HANDLER_CONTAINER]},
    }


def pod_running(pod: JsonObject, now: datetime) -> JsonObject:
    """Return the status of a pod whose containers run."""
    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    state = {"running": {"startedAt": rfc3339(now)}}
    return {
        "status": {
            "phase": "Running",
            "startTime": rfc3339(now),
            "hostIP": LOOPBACK,
            "podIP": LOOPBACK,
            "podIPs": [{"ip": LOOPBACK}],
            "conditions": [_condition(kind, now) for kind in kinds],
            "containerStatuses": _containers(pod, state, up=True),
        }
    }


def pod_ended(pod: JsonObject, phase: str, now: datetime) -> JsonObject:
    """Return the status of a pod whose containers have ended: Succeeded or Failed."""
    well = phase == "Succeeded"
    reason = "Completed" if well else "Error"
    ended = {"exitCode": 0 if well else 1, "reason": reason, "finishedAt": rfc3339(now)}
    conditions = [
        _condition("PodScheduled", now),
        _condition("Initialized", now),
        _condition("ContainersReady", now, "False", reason="PodCompleted"),
        _condition("Ready", now, "False", reason="PodCompleted"),
    ]
    containers = _containers(pod, {"terminated": ended}, up=False)
    return {"status": {"phase": phase, "conditions": conditions, "containerStatuses": containers}}


def vmi_running(now: datetime, memory_mib: int) -> JsonObject:
    """Return the status of a VMI whose guest has started, but for its phase."""
    memory = dict.fromkeys(("guestAtBoot", "guestCurrent", "guestRequested"), f"{memory_mib}Mi")
    return {
        "conditions": [_condition("Ready", now), _condition("LiveMigratable", now)],
        "currentCPUTopology": {"cores": 1, "sockets": 1, "threads": 1},
        "guestOSInfo": {},
        "interfaces": [{"name": "default", "podInterfaceName": "eth0"}],
        "memory": memory,
        "migrationMethod": "LiveMigration",
        "migrationTransport": "Unix",
        "selinuxContext": "none",
    }


def _condition(kind: str, now: datetime, status: str = "True", *, reason: str = "") -> JsonObject:
    condition = {
        "type": kind,
        "status": status,
        "lastProbeTime": rfc3339(now),
        "lastTransitionTime": rfc3339(now),
    }
    return condition | ({"reason": reason} if reason else {})


def _containers(pod: JsonObject, state: JsonObject, *, up: bool) -> list[JsonObject]:
    return [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": up,
            "started": up,
            "restartCount": 0,
            "state": state,
        }
        for container in objects.spec(pod)["containers"]
    ]
