"""What is measured on the real control plane, and what the source says of older releases."""

from __future__ import annotations

import json

import pytest

from kubectl_vmredir.errors import (
    ClusterError,
    ClusterUnreachable,
    ExitCode,
    Forbidden,
    LoginRequired,
    NoUsbSlots,
    SlotsFull,
    VmiNotFound,
    VmiNotReady,
)
from kubectl_vmredir.k8s.status import StatusError, TransientStatusError
from kubectl_vmredir.kubevirt.handshake import Refusal
from kubectl_vmredir.kubevirt.refusals import explained, refused
from kubectl_vmredir.model import VmiRef

VMI = VmiRef("demo", "desk")
UID = "7d28d875-32ff-42f3-b930-8cb035b79c4d"


def of_virt_api(code: int, reason: str, message: str) -> bytes:
    """Return a Status as virt-api writes it: indented, in many lines."""
    status = {"metadata": {}, "status": "Failure", "message": message, "reason": reason}
    cause = {"causes": [{"message": message}]}
    return json.dumps(
        {**status, "details": cause, "code": code, "kind": "Status", "apiVersion": "v1"}, indent=1
    ).encode()


def internal(message: str) -> bytes:
    return of_virt_api(500, "InternalError", f"Internal error occurred: {message}")


def conflict(message: str) -> bytes:
    return of_virt_api(
        409,
        "Conflict",
        'Operation cannot be fulfilled on virtualmachineinstance.kubevirt.io "desk": ' + message,
    )


def bad_request(message: str) -> bytes:
    return of_virt_api(400, "BadRequest", message)


def of_node(status: int, said: str = "") -> bytes:
    said = f": application info: {said}" if said else ""
    return internal(f"Can't connect to websocket ({status}): websocket: bad handshake{said}")


SOCKET_GONE = (
    "failed opening virt-usbredir-0 for path root: /proc/4711/root, relative: "
    f"/run/kubevirt-private/{UID}/virt-usbredir-0: no such file or directory"
)

# status, body, error, retryable, words of the message
REFUSALS = [
    pytest.param(
        404,
        of_virt_api(404, "NotFound", 'virtualmachineinstance.kubevirt.io "desk" not found'),
        VmiNotFound,
        True,
        "no running VM 'desk' in namespace 'demo'",
        id="no-vmi",
    ),
    pytest.param(
        404, b"404 page not found\n", ClusterError, False, "has no KubeVirt", id="no-kubevirt"
    ),
    pytest.param(
        409,
        conflict("No USB support on s390x"),
        NoUsbSlots,
        False,
        "has no USB slots: KubeVirt has none on s390x",
        id="s390x",
    ),
    pytest.param(
        409,
        conflict("Not configured with USB Redirection"),
        NoUsbSlots,
        False,
        "VM demo/desk has no USB slots",
        id="no-passthrough",
    ),
    pytest.param(
        400,
        bad_request("VMI is not running"),
        VmiNotReady,
        True,
        "is not running",
        id="not-running",
    ),
    pytest.param(
        400,
        bad_request("No virt-handler on node  found"),
        VmiNotReady,
        True,
        "is on no node yet",
        id="no-node",
    ),
    pytest.param(
        400,
        bad_request("No virt-handler on node node9 found"),
        VmiNotReady,
        True,
        "node node9 has no virt-handler",
        id="no-handler",
    ),
    pytest.param(
        500, of_node(503), SlotsFull, True, "all USB slots of VM demo/desk are in use", id="full"
    ),
    pytest.param(
        500,
        of_node(404, "VMI demo/desk does not exist"),
        VmiNotReady,
        True,
        "is not known to its node yet",
        id="not-known",
    ),
    pytest.param(
        500,
        of_node(400, SOCKET_GONE),
        VmiNotReady,
        True,
        "has no USB socket on the node",
        id="socket-gone",
    ),
    pytest.param(
        500,
        of_node(400, f"No command socket found for vmi {UID}"),
        VmiNotReady,
        True,
        "has left the node",
        id="launcher-gone",
    ),
    pytest.param(
        500,
        of_node(400, "Found multiple sockets for vmi demo/desk. waiting for only one to exist"),
        VmiNotReady,
        True,
        "came back to a node",
        id="two-launchers",
    ),
    pytest.param(
        500,
        internal("dialing virt-handler: websocket: bad handshake"),
        VmiNotReady,
        True,
        "its slots may be in use, or it is on the move",
        id="before-1.8",
    ),
    pytest.param(
        500,
        internal("dial tcp 127.0.5.11:8186: connect: connection refused"),
        ClusterUnreachable,
        True,
        "virt-handler on its node is down",
        id="handler-down",
    ),
    pytest.param(
        500,
        internal("unable to retrieve vmi [desk]: etcdserver: request timed out"),
        ClusterUnreachable,
        True,
        "KubeVirt cannot read it",
        id="vmi-unreadable",
    ),
    pytest.param(
        500, internal("something new"), TransientStatusError, True, "something new", id="other-500"
    ),
    pytest.param(
        503,
        b"error dialing backend: dial tcp 127.0.5.1:8443: connect: connection refused",
        ClusterUnreachable,
        True,
        "virt-api is down",
        id="virt-api-down",
    ),
    pytest.param(
        503,
        b"service unavailable\n",
        ClusterUnreachable,
        True,
        "virt-api is down",
        id="apiservice-unavailable",
    ),
    pytest.param(
        504,
        b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Timeout: '
        b'request did not complete within the allotted timeout","reason":"Timeout","code":504}',
        ClusterUnreachable,
        True,
        "its node does not answer",
        id="node-hangs",
    ),
    pytest.param(
        502, b"<html>Bad Gateway", ClusterUnreachable, True, "does not get through", id="proxy-502"
    ),
    pytest.param(
        401,
        b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
        b'"message":"Unauthorized","reason":"Unauthorized","code":401}',
        LoginRequired,
        False,
        "does not accept the credentials",
        id="bad-token",
    ),
    pytest.param(
        401,
        b"no RBAC policy matched",
        LoginRequired,
        False,
        "no RBAC policy matched",
        id="virt-api-401",
    ),
    pytest.param(
        403,
        b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"virtual'
        b'machineinstances.subresources.kubevirt.io \\"desk\\" is forbidden: User \\"viewer\\" '
        b'cannot get resource \\"virtualmachineinstances/usbredir\\" in API group '
        b'\\"subresources.kubevirt.io\\" in the namespace \\"demo\\"","reason":"Forbidden",'
        b'"code":403}',
        Forbidden,
        False,
        "user 'viewer' may not get virtualmachineinstances/usbredir",
        id="no-right",
    ),
    pytest.param(
        403,
        b'{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"virtual'
        b'machineinstances.subresources.kubevirt.io \\"desk\\" is forbidden: User '
        b'\\"system:anonymous\\" cannot get resource \\"virtualmachineinstances/usbredir\\" in '
        b'API group \\"subresources.kubevirt.io\\" in the namespace \\"demo\\"",'
        b'"reason":"Forbidden","code":403}',
        LoginRequired,
        False,
        "no credentials were sent",
        id="anonymous",
    ),
    pytest.param(
        400,
        b"Bad Request\n"
        + bad_request(
            "websocket: the client is not using the websocket protocol: 'upgrade' token not found "
            "in 'Connection' header"
        ),
        ClusterError,
        False,
        "does not let websockets through",
        id="upgrade-stripped",
    ),
    pytest.param(
        429, b"Too many requests", TransientStatusError, True, "Too many requests", id="throttled"
    ),
    pytest.param(418, b"", StatusError, False, "418", id="unheard-of"),
    pytest.param(
        200, b"<html>Please log in", ClusterError, False, "it answered 200", id="login-page"
    ),
    pytest.param(0, b"SSH-2.0", ClusterError, False, "it answered 0", id="not-http"),
]


@pytest.mark.parametrize(("status", "body", "error", "retryable", "words"), REFUSALS)
def test_refusal(
    status: int, body: bytes, error: type[ClusterError], retryable: bool, words: str
) -> None:
    found = refused(Refusal(status, {}, body), VMI)

    assert type(found) is error
    assert found.retryable is retryable
    assert words in str(found)


def test_full_slots_are_a_thing_of_their_own_to_scripts() -> None:
    assert refused(Refusal(500, {}, of_node(503)), VMI).exit_code == ExitCode.TAKEN


@pytest.mark.parametrize(
    ("status", "body", "hint"),
    [
        (409, conflict("Not configured with USB Redirection"), "kubectl patch vm -n demo desk"),
        (403, b"no", "ClusterRole edit in namespace demo"),
        (500, of_node(503), "virtctl usbredir"),
        (500, internal("dialing virt-handler: websocket: bad handshake"), "before 1.8"),
        (503, b"service unavailable", "administrator"),
        (404, b"404 page not found", "kubectl get kubevirt -A"),
    ],
)
def test_hint_says_what_to_do(status: int, body: bytes, hint: str) -> None:
    found = refused(Refusal(status, {}, body), VMI)

    assert found.hint is not None
    assert hint in found.hint


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{" * 1000, b"\x1b]0;title\x07" * 9])
@pytest.mark.parametrize("status", [0, 101, 301, 400, 401, 403, 404, 409, 500, 503, 599, 999])
def test_any_answer_gives_an_error_that_can_be_shown(status: int, body: bytes) -> None:
    found = refused(Refusal(status, {}, body), VMI)

    assert isinstance(found, ClusterError)
    assert "\x1b" not in f"{found}{found.hint}"


def test_bare_404_of_a_list_means_no_kubevirt() -> None:
    missing = StatusError(404, "NotFound", 'namespaces "x" not found')

    assert explained(missing) is missing
    assert "no KubeVirt" in str(explained(StatusError(404, "", "404 page not found")))
