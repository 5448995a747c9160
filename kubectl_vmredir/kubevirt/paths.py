"""Paths of KubeVirt's API, and of the little of Kubernetes' that is needed with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.model import VmiRef

SELF_SUBJECT_REVIEWS: Final = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
SELF_SUBJECT_ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

CREATE_VMIM: Final = {
    "verb": "create",
    "group": "kubevirt.io",
    "resource": "virtualmachineinstancemigrations",
}
UPDATE_MIGRATE: Final = {
    "verb": "update",
    "group": "subresources.kubevirt.io",
    "resource": "virtualmachines",
    "subresource": "migrate",
}
"""What ``virtctl migrate`` needs, as an access review asks for it."""


def vmis(namespace: str | None) -> str:
    """Return the path of the VMIs of a namespace, or of all (None)."""
    return _collection("virtualmachineinstances", namespace)


def vmims(namespace: str) -> str:
    """Return the path of the VMIMs of a namespace."""
    return _collection("virtualmachineinstancemigrations", namespace)


def vmi(ref: VmiRef) -> str:
    """Return the path of a VMI."""
    return f"{vmis(ref.namespace)}/{quote(ref.name, safe='')}"


def vm(ref: VmiRef) -> str:
    """Return the path of the VirtualMachine that a VMI comes from: it has the same name."""
    return f"{_collection('virtualmachines', ref.namespace)}/{quote(ref.name, safe='')}"


def usbredir(ref: VmiRef) -> str:
    """Return the path of the stream to a slot of a VMI, which one is KubeVirt's choice.

    Only ever for a websocket: a plain GET takes a slot, and does not give it back for minutes.
    """
    return _subresource("virtualmachineinstances", ref, "usbredir")


def migrate(ref: VmiRef) -> str:
    """Return the path which ``virtctl migrate`` PUTs to; the VM has the name of its VMI."""
    return _subresource("virtualmachines", ref, "migrate")


def pods(namespace: str) -> str:
    """Return the path of the pods of a namespace."""
    return f"/api/v1/namespaces/{quote(namespace, safe='')}/pods"


def pod_exec(namespace: str, pod: str, container: str, command: Sequence[str]) -> str:
    """Return path and query of a command that runs in a container of a pod, without a terminal."""
    streams = [("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("tty", "false")]
    options = [("container", container), *streams]
    query = urlencode([*options, *(("command", argument) for argument in command)], quote_via=quote)
    return f"{pods(namespace)}/{quote(pod, safe='')}/exec?{query}"


def _collection(resource: str, namespace: str | None) -> str:
    if namespace is None:
        return f"/apis/kubevirt.io/v1/{resource}"
    return f"/apis/kubevirt.io/v1/namespaces/{quote(namespace, safe='')}/{resource}"


def _subresource(resource: str, ref: VmiRef, name: str) -> str:
    namespace, owner = quote(ref.namespace, safe=""), quote(ref.name, safe="")
    return f"/apis/subresources.kubevirt.io/v1/namespaces/{namespace}/{resource}/{owner}/{name}"
