from __future__ import annotations

import pytest

from kubectl_vmredir.lab.api.requests import RequestInfo

VMIS = "/apis/kubevirt.io/v1/namespaces/demo/virtualmachineinstances"

REQUESTS = [
    ("GET", "/version", {}, RequestInfo("get", "/version")),
    ("GET", "/api/v1", {}, RequestInfo("get", "/api/v1")),
    ("GET", "/apis/kubevirt.io/v1", {}, RequestInfo("get", "/apis/kubevirt.io/v1")),
    (
        "GET",
        "/api/v1/pods",
        {},
        RequestInfo("list", "/api/v1/pods", version="v1", resource="pods"),
    ),
    (
        "GET",
        VMIS,
        {"watch": "1"},
        RequestInfo("watch", VMIS, "kubevirt.io", "v1", "demo", "virtualmachineinstances"),
    ),
    (
        "GET",
        VMIS,
        {"fieldSelector": "metadata.name=x,metadata.namespace=demo"},
        RequestInfo("list", VMIS, "kubevirt.io", "v1", "demo", "virtualmachineinstances", "", "x"),
    ),
    (
        "PATCH",
        f"{VMIS}/x/status",
        {},
        RequestInfo(
            "patch", f"{VMIS}/x/status", "kubevirt.io", "v1", "demo", "virtualmachineinstances",
            "status", "x",
        ),
    ),
    (
        "DELETE",
        VMIS,
        {},
        RequestInfo(
            "deletecollection", VMIS, "kubevirt.io", "v1", "demo", "virtualmachineinstances"
        ),
    ),
    (
        "GET",
        "/api/v1/namespaces/demo",
        {},
        RequestInfo("get", "/api/v1/namespaces/demo", "", "v1", "demo", "namespaces", "", "demo"),
    ),
    (
        "PUT",
        "/api/v1/namespaces/demo/status",
        {},
        RequestInfo(
            "update", "/api/v1/namespaces/demo/status", "", "v1", "demo", "namespaces", "status",
            "demo",
        ),
    ),
    (
        "GET",
        "/apis/s/v1/namespaces/demo/virtualmachineinstances/x/portforward/80/tcp",
        {},
        RequestInfo(
            "get",
            "/apis/s/v1/namespaces/demo/virtualmachineinstances/x/portforward/80/tcp",
            "s", "v1", "demo", "virtualmachineinstances", "portforward", "x", ("80", "tcp"),
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "query", "wanted"), REQUESTS)
def test_a_request_is_taken_apart(
    method: str, path: str, query: dict[str, str], wanted: RequestInfo
) -> None:
    assert RequestInfo.parse(method, path, query) == wanted
