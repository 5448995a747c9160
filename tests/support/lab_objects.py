"""API objects of a lab, as small as a test can do with."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from kubectl_vmredir.lab import objects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubectl_vmredir.k8s.objects import JsonObject

CREATED = "2026-11-23T12:00:00Z"
_VERSIONS = itertools.count(1)


def _object(name: str, namespace: str = "demo", **metadata: Any) -> JsonObject:  # noqa: ANN401
    given = {key: value for key, value in metadata.items() if value}
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "resourceVersion": str(next(_VERSIONS)),
            "creationTimestamp": CREATED,
            **given,
        }
    }


def vm(strategy: str = "Always", **metadata: Any) -> JsonObject:  # noqa: ANN401
    template = {
        "metadata": {"annotations": {"vmredir.io/slots": "flash"}},
        "spec": {"domain": {"devices": {"clientPassthrough": {}}}},
    }
    metadata.setdefault("finalizers", [objects.VM_FINALIZER])
    obj = _object("desk", **metadata)
    return obj | {"spec": {"runStrategy": strategy, "template": template}}


def vmi(
    phase: str = "Running",
    *,
    name: str = "desk",
    node: str | None = "node1",
    state: Mapping[str, object] | None = None,
    observed: bool = True,
    **metadata: Any,  # noqa: ANN401
) -> JsonObject:
    observations = {"kubevirt.io/latest-observed-api-version": "v1"} if observed else {}
    annotations = observations | dict(metadata.pop("annotations", {}))
    metadata.setdefault("finalizers", list(objects.VMI_FINALIZERS))
    status: JsonObject = {"phase": phase, "launcherContainerImageVersion": "lab/virt-launcher"}
    if node is not None:
        status["nodeName"] = node
    if state is not None:
        status["migrationState"] = dict(state)
    return _object(name, annotations=annotations, **metadata) | {"spec": {}, "status": status}


def pod(
    name: str = "virt-launcher-desk-a",
    *,
    node: str | None = "node1",
    phase: str = "Running",
    job: str = "",
    labels: Mapping[str, str] | None = None,
    **more: Any,  # noqa: ANN401
) -> JsonObject:
    mine = {objects.APP: objects.LAUNCHER, objects.CREATED_BY: "uid-desk"}
    if job:
        mine[objects.MIGRATION_JOB_UID] = job
    ready = {"type": "Ready", "status": "True" if phase == "Running" else "False"}
    conditions = more.pop("conditions", [ready])
    spec = more.pop("spec", {})
    obj = _object(name, labels=mine | dict(labels or {}), **more)
    if node is not None:
        spec = {**spec, "nodeName": node}
    return obj | {"spec": spec, "status": {"phase": phase, "conditions": conditions}}


def vmim(
    phase: str = "",
    *,
    name: str = "move",
    hold_at: str = "",
    observed: bool = True,
    status: Mapping[str, object] | None = None,
    **metadata: Any,  # noqa: ANN401
) -> JsonObject:
    annotations = dict(metadata.pop("annotations", {}))
    if observed:
        annotations["kubevirt.io/latest-observed-api-version"] = "v1"
    if hold_at:
        annotations["lab.vmredir.io/hold-at"] = hold_at
    metadata.setdefault("finalizers", [objects.VMIM_FINALIZER])
    obj = _object(name, annotations=annotations, **metadata)
    own: JsonObject = {"phase": phase} if phase else {}
    return obj | {"spec": {"vmiName": "desk"}, "status": own | dict(status or {})}


def node(name: str = "node1", *, ready: bool = True, cordoned: bool = False) -> JsonObject:
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    obj = _object(name, namespace="", labels={objects.HOSTNAME: name})
    spec = {"unschedulable": True} if cordoned else {}
    return obj | {"spec": spec, "status": {"conditions": [condition]}}
