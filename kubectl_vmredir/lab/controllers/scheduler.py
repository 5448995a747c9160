"""The scheduler: a node for each pod that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.controllers.writes import Bind, Patch, Write
from kubectl_vmredir.lab.objects import Collection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.k8s.objects import JsonObject


def decide(
    pod: JsonObject, nodes: Sequence[JsonObject], pods: Sequence[JsonObject]
) -> Write | None:
    """Return what is due for a pod: a node, or a word that there is none.

    Args:
        pod: The pod.
        nodes: All nodes.
        pods: All pods.
    """
    if objects.spec(pod).get("nodeName") or objects.deleting(pod) or objects.is_final(pod):
        return None
    fitting = [node for node in nodes if takes_pods(node) and _fits(pod, node, pods)]
    if fitting:
        return Bind(pod, min(fitting, key=lambda node: (_load(node, pods), objects.name(node))))
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": f"0/{len(nodes)} nodes are available",
    }
    if condition.items() <= objects.condition(pod, "PodScheduled").items():
        return None
    status = {"phase": "Pending", "conditions": [condition]}
    return Patch(Collection.PODS, pod, {"status": status}, "status")


def takes_pods(node: JsonObject) -> bool:
    """Return whether a node is ready, and not cordoned."""
    return objects.is_ready(node) and not objects.spec(node).get("unschedulable")


def _fits(pod: JsonObject, node: JsonObject, pods: Sequence[JsonObject]) -> bool:
    labels = node["metadata"].get("labels") or {}
    wanted = objects.spec(pod).get("nodeSelector") or {}
    if not wanted.items() <= labels.items():
        return False
    there = [other for other in pods if _runs_on(other, node)]
    return not any(
        _carries(other, term["labelSelector"]["matchLabels"])
        for term in _anti_affinity(pod)
        for other in there
    )


def _anti_affinity(pod: JsonObject) -> Sequence[JsonObject]:
    """Return the terms; each is about whole nodes, as those of virt-controller are."""
    affinity = (objects.spec(pod).get("affinity") or {}).get("podAntiAffinity") or {}
    terms: Sequence[JsonObject] = (
        affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    )
    return terms


def _carries(pod: JsonObject, labels: dict[str, str]) -> bool:
    return all(objects.label(pod, key) == value for key, value in labels.items())


def _load(node: JsonObject, pods: Sequence[JsonObject]) -> int:
    return sum(_runs_on(pod, node) for pod in pods)


def _runs_on(pod: JsonObject, node: JsonObject) -> bool:
    on_node = objects.spec(pod).get("nodeName") == objects.name(node)
    return on_node and not objects.is_final(pod)
