"""The subresource ``binding`` of pods: how a scheduler gives a pod its node.

Source: k8s.io/kubernetes/pkg/registry/core/pod/storage/storage.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .objects import Json, dig
from .resources import PODS
from .status import Subject, conflict, not_found

if TYPE_CHECKING:
    from .store import Store


def bind(store: Store, namespace: str, name: str, binding: Json) -> Json:
    """Give a pod the node that a v1.Binding names, and return the pod.

    Raises:
        Refusal: 404, or 409 if it has one.
    """
    pod = store.get(PODS, namespace, name)
    if pod is None:
        raise not_found(PODS.subject, name)
    if taken := dig(pod, "spec", "nodeName"):
        reason = f'pod {name} is already assigned to node "{taken}"'
        raise conflict(Subject("", "pods/binding"), name, reason)
    scheduled = {"type": "PodScheduled", "status": "True"}
    others = dig(pod, "status", "conditions") or ()
    conditions = [each for each in others if each.get("type") != "PodScheduled"]
    bound = {
        **pod,
        "spec": {**pod["spec"], "nodeName": dig(binding, "target", "name")},
        "status": {**pod.get("status", {}), "conditions": [*conditions, scheduled]},
    }
    return store.put(PODS, bound)
