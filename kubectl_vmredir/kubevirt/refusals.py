"""What the cluster says instead of opening a stream -> our errors.

Sources: KubeVirt, pkg/virt-api/rest (streamer.go, dialers.go) and pkg/virt-handler/rest/console.go;
the texts are as measured on kube-apiserver 1.36 with virt-api of 2026-08, and as in the source of
KubeVirt before 1.8, where virt-api kept virt-handler's answer to itself.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import (
    ClusterError,
    ClusterUnreachable,
    Forbidden,
    NoUsbSlots,
    SlotsFull,
    VmiNotFound,
    VmiNotReady,
)
from kubectl_vmredir.k8s.objects import printable
from kubectl_vmredir.k8s.status import parse_status, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.k8s.status import StatusError
    from kubectl_vmredir.kubevirt.handshake import Refusal
    from kubectl_vmredir.model import VmiRef

    Build = Callable[[VmiRef, re.Match[str]], ClusterError]


def refused(answer: Refusal, vmi: VmiRef) -> ClusterError:
    """Return the error for an answer to the dial of a VMI's slot; ``retryable`` says what to do."""
    status = parse_status(answer.body)
    said = status.get("message")
    message = printable(said if isinstance(said, str) else answer.body.decode(errors="replace"))
    for code, pattern, build in _TABLE:
        if answer.status == code and (found := re.search(pattern, message)):
            return build(vmi, found)
    if answer.status < 400:
        return ClusterError(
            f"the API server opened no stream to VM {vmi}: it answered {answer.status}",
            hint="Is there a login page or a proxy in the way? Check the kubeconfig's server.",
        )
    error = refusal(answer.status, answer.body)
    if isinstance(error, Forbidden):
        return Forbidden(
            str(error),
            hint=(
                f"Ask for the ClusterRole edit in namespace {vmi.namespace}, or one with get on "
                "virtualmachineinstances/usbredir in the API group subresources.kubevirt.io."
            ),
        )
    return error


def explained(error: StatusError) -> ClusterError:
    """Return what a refused list, get or watch of KubeVirt's objects means."""
    # Status of a missing object has a reason; a path that nobody serves gives a bare 404.
    if error.status == HTTPStatus.NOT_FOUND and not error.reason:
        return no_kubevirt()
    return error


_ASK_ADMIN: Final = "If it stays so, tell the administrator of the cluster."
_FORMER_LAUNCHER: Final = "came back to a node that has not forgotten its former stay yet"


def no_kubevirt() -> ClusterError:
    """Return the error for a cluster that does not serve KubeVirt's API."""
    return ClusterError(
        "the cluster has no KubeVirt, or one without USB redirection",
        hint="Is it the right cluster? Check with: kubectl get kubevirt -A",
    )


def _stripped(_vmi: VmiRef, _found: re.Match[str]) -> ClusterError:
    return ClusterError(
        "something on the way to the API server does not let websockets through",
        hint="A proxy or load balancer drops the Upgrade header. Each try takes a slot of the VM "
        "for some minutes.",
    )


def _not_ready(reason: str, hint: str | None = None) -> Build:
    def build(vmi: VmiRef, found: re.Match[str]) -> ClusterError:
        return VmiNotReady(f"VM {vmi} {reason.format(*found.groups())}", hint=hint)

    return build


def _unreachable(reason: str, hint: str | None = None) -> Build:
    def build(vmi: VmiRef, _found: re.Match[str]) -> ClusterError:
        return ClusterUnreachable(f"no way to VM {vmi}: {reason}", hint=hint)

    return build


_NODE: Final = r"Can't connect to websocket \({}\): websocket: bad handshake"
"""What virt-api >= 1.8 says of virt-handler's answer, by its status."""

_TABLE: Final[tuple[tuple[int, str, Build], ...]] = (
    # virt-api, before it asks the node.
    (
        404,
        r'virtualmachineinstance\.kubevirt\.io "[^"]*" not found',
        lambda vmi, _: VmiNotFound(vmi),
    ),
    (404, "", lambda _vmi, _: no_kubevirt()),
    (409, "Not configured with USB Redirection", lambda vmi, _: NoUsbSlots(vmi)),
    (409, "No USB support on s390x", lambda vmi, _: NoUsbSlots(vmi, "KubeVirt has none on s390x")),
    (400, "VMI is not running", _not_ready("is not running")),
    (400, "No virt-handler on node found", _not_ready("is on no node yet")),
    (
        400,
        r"No virt-handler on node (\S+) found",
        _not_ready("cannot be reached: node {} has no virt-handler", _ASK_ADMIN),
    ),
    (400, "websocket: the client is not using the websocket protocol", _stripped),
    # virt-handler, as virt-api >= 1.8 passes it on.
    (500, _NODE.format(503), lambda vmi, _: SlotsFull(vmi)),
    (500, _NODE.format(404), _not_ready("is not known to its node yet")),
    (500, _NODE.format(400) + ".*Found multiple sockets", _not_ready(_FORMER_LAUNCHER)),
    (500, _NODE.format(400) + ".*No command socket", _not_ready("has left the node")),
    (500, _NODE.format(400), _not_ready("has no USB socket on the node, it may be on the move")),
    # The same before 1.8: one text for all.
    (
        500,
        "dialing virt-handler: websocket: bad handshake",
        _not_ready(
            "refuses the stream: its slots may be in use, or it is on the move",
            "KubeVirt before 1.8 does not say which. End what else may use its slots.",
        ),
    ),
    # The way to the node.
    (500, r"dial tcp \S+: ", _unreachable("virt-handler on its node is down", _ASK_ADMIN)),
    (500, "unable to retrieve vmi", _unreachable("KubeVirt cannot read it")),
    (502, "", _unreachable("something before the API server does not get through")),
    (503, "", _unreachable("KubeVirt's virt-api is down", _ASK_ADMIN)),
    (504, "", _unreachable("its node does not answer", _ASK_ADMIN)),
)
