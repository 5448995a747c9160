from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.api.faults import WatchFault
from kubectl_vmredir.lab.api.installation import HANDLER_CERTIFICATE, KUBEVIRT_CA
from kubectl_vmredir.lab.api.rbac import Binding, SubjectKind
from kubectl_vmredir.lab.api.resources import VMIS
from kubectl_vmredir.lab.api.roles import DEMO, HANDLER, MIGRATE, VIEW
from kubectl_vmredir.lab.api.server import ApiServer
from tests.support.lab_api import (
    VMI_PATH,
    VMIM_PATH,
    WAIT_S,
    Json,
    add_vm,
    add_vmi,
    client,
    vm,
    vmi,
    vmim,
)

MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


@asynccontextmanager
async def watching(
    http: httpx.AsyncClient, path: str, **headers: str
) -> AsyncIterator[AsyncIterator[Json]]:
    """Open a watch and yield its events."""

    async def events(response: httpx.Response) -> AsyncIterator[Json]:
        async for line in response.aiter_lines():
            yield json.loads(line)

    async with asyncio.timeout(WAIT_S), http.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200
        yield events(response)


def named(answer: httpx.Response) -> list[str]:
    return [item["metadata"]["name"] for item in answer.json()["items"]]


async def test_who_has_no_token_is_forbidden_and_who_has_a_bad_one_unauthorized(
    server: ApiServer,
) -> None:
    async with client(server, "") as http:
        anonymous = await http.get(VMI_PATH)
        stranger = await http.get(VMI_PATH, headers={"Authorization": "Bearer nonsense"})
        version = await http.get("/version")

    assert anonymous.status_code == 403
    assert 'User \\"system:anonymous\\" cannot list' in anonymous.text
    assert stranger.status_code == 401
    assert stranger.json()["reason"] == "Unauthorized"
    assert version.json()["major"] == "1"


async def test_people_read_indented_json_and_programs_compact(server: ApiServer) -> None:
    async with client(server) as http:
        program = await http.get("/api/v1/namespaces/demo")
        person = await http.get("/api/v1/namespaces/demo", headers={"User-Agent": "curl/8.0"})

    assert program.text.startswith('{"apiVersion":"v1","kind":"Namespace",')
    assert program.text.endswith("}\n")
    assert person.text.startswith('{\n  "apiVersion": "v1",\n')
    assert program.headers["Content-Type"] == "application/json"
    assert program.headers["Cache-Control"] == "no-cache, private"


async def test_an_object_is_created_changed_and_deleted(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with client(server) as http:
        created = await http.post(VMIM_PATH, json=vmim())
        path = f"{VMIM_PATH}/move"
        patched = await http.patch(
            f"{path}/status", json={"status": {"phase": "Running"}}, headers=MERGE
        )
        marked = await http.delete(path)
        freed = await http.patch(path, json={"metadata": {"finalizers": None}}, headers=MERGE)
        gone = await http.get(path)

    assert created.status_code == 201
    assert patched.json()["status"] == {"phase": "Running"}
    assert "deletionTimestamp" in marked.json()["metadata"]
    assert freed.status_code == 200
    assert gone.status_code == 404
    assert gone.json()["details"] == {
        "name": "move",
        "group": "kubevirt.io",
        "kind": "virtualmachineinstancemigrations",
    }


async def test_yaml_is_taken_and_given(server: ApiServer) -> None:
    add_vmi(server, vmi())
    body = (
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachineInstanceMigration\n"
        "metadata: {name: move}\nspec: {vmiName: fedora}\n"
    )
    yaml = "application/yaml"
    async with client(server) as http:
        answer = await http.post(
            VMIM_PATH, content=body, headers={"Content-Type": yaml, "Accept": yaml}
        )

    assert answer.status_code == 201
    assert answer.headers["Content-Type"] == yaml
    assert "vmiName: fedora" in answer.text


async def test_a_strategic_patch_is_for_kubernetes_own_types_only(server: ApiServer) -> None:
    add_vmi(server, vmi())
    strategic = {"Content-Type": "application/strategic-merge-patch+json"}
    async with client(server) as http:
        custom = await http.patch(f"{VMI_PATH}/fedora", json={}, headers=strategic)
        core = await http.patch(
            "/api/v1/namespaces/demo", json={"metadata": {"labels": {"a": "b"}}}, headers=strategic
        )

    assert custom.status_code == 415
    assert core.json()["metadata"]["labels"]["a"] == "b"


async def test_a_dry_run_is_refused_and_writes_nothing(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with client(server) as http:
        answer = await http.delete(f"{VMI_PATH}/fedora", params={"dryRun": "All"})

    assert answer.status_code == 400
    obj = server.store.get(VMIS, "demo", "fedora")
    assert obj is not None
    assert "deletionTimestamp" not in obj["metadata"]


async def test_a_list_comes_in_pages_as_of_one_version(server: ApiServer) -> None:
    for name in ("a", "b", "c"):
        add_vmi(server, vmi(name))
    async with client(server) as http:
        first = await http.get(VMI_PATH, params={"limit": 2})
        meta = first.json()["metadata"]
        add_vmi(server, vmi("bb"))
        add_vmi(server, vmi("d"))
        second = await http.get(VMI_PATH, params={"limit": 2, "continue": meta["continue"]})

    assert named(first) == ["a", "b"]
    assert meta["remainingItemCount"] == 1
    assert named(second) == ["c"]
    assert second.json()["metadata"]["resourceVersion"] == meta["resourceVersion"]
    assert second.json()["metadata"]["continue"] == ""


async def test_a_page_of_a_list_that_is_too_old_is_gone(server: ApiServer) -> None:
    for name in ("a", "b"):
        add_vmi(server, vmi(name))
    async with client(server) as http:
        first = await http.get(VMI_PATH, params={"limit": 1})
        add_vmi(server, vmi("c"))
        server.store.compact()
        second = await http.get(
            VMI_PATH, params={"limit": 1, "continue": first.json()["metadata"]["continue"]}
        )

    assert second.status_code == 410
    assert second.json()["reason"] == "Expired"
    assert second.json()["message"].startswith("The provided continue parameter is too old")


async def test_a_list_is_chosen_from_by_selectors(server: ApiServer) -> None:
    obj = vmi("a")
    obj["metadata"]["labels"] = {"tier": "web"}
    add_vmi(server, obj)
    add_vmi(server, vmi("b"))
    async with client(server) as http:
        by_label = await http.get(VMI_PATH, params={"labelSelector": "tier in (web)"})
        by_name = await http.get(VMI_PATH, params={"fieldSelector": "metadata.name=b"})

    assert named(by_label) == ["a"]
    assert named(by_name) == ["b"]


async def test_a_watch_tells_what_is_there_and_then_each_change(server: ApiServer) -> None:
    add_vmi(server, vmi())
    async with client(server) as http, watching(http, f"{VMI_PATH}?watch=1") as events:
        added = await anext(events)
        await http.patch(f"{VMI_PATH}/fedora", json={"status": {"phase": "Failed"}}, headers=MERGE)
        modified = await anext(events)

    assert (added["type"], added["object"]["status"]["phase"]) == ("ADDED", "Running")
    assert (modified["type"], modified["object"]["status"]["phase"]) == ("MODIFIED", "Failed")


async def test_a_watch_goes_on_from_a_version(server: ApiServer) -> None:
    add_vmi(server, vmi("old"))
    version = server.store.version
    add_vmi(server, vmi("new"))
    path = f"{VMI_PATH}?watch=1&resourceVersion={version}"
    async with client(server) as http, watching(http, path) as events:
        event = await anext(events)

    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "new")


async def test_a_watch_with_a_selector_sees_objects_come_and_go(server: ApiServer) -> None:
    add_vmi(server, vmi())
    path = f"{VMI_PATH}?watch=1&labelSelector=tier%3Dweb"
    async with client(server) as http, watching(http, path) as events:
        for labels in ({"tier": "web"}, {"tier": "web", "a": "b"}, {"tier": "db"}):
            await http.patch(
                f"{VMI_PATH}/fedora", json={"metadata": {"labels": labels}}, headers=MERGE
            )
        seen = [await anext(events) for _ in range(3)]

    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]


async def test_bookmarks_tell_the_end_of_the_initial_events_and_of_the_watch(
    server: ApiServer,
) -> None:
    add_vmi(server, vmi())
    path = f"{VMI_PATH}?watch=1&allowWatchBookmarks=true&timeoutSeconds=3"
    async with client(server) as http, watching(http, path) as events:
        seen = [await anext(events) for _ in range(3)]

    assert [event["type"] for event in seen] == ["ADDED", "BOOKMARK", "BOOKMARK"]
    assert seen[1]["object"] == {
        "kind": "VirtualMachineInstance",
        "apiVersion": "kubevirt.io/v1",
        "metadata": {
            "resourceVersion": str(server.store.version),
            "annotations": {"k8s.io/initial-events-end": "true"},
        },
    }
    assert "annotations" not in seen[2]["object"]["metadata"]


async def test_initial_events_can_be_asked_for_in_the_new_way(server: ApiServer) -> None:
    add_vmi(server, vmi())
    path = (
        f"{VMI_PATH}?watch=1&allowWatchBookmarks=true&sendInitialEvents=true"
        "&resourceVersionMatch=NotOlderThan"
    )
    async with client(server) as http, watching(http, path) as events:
        seen = [await anext(events), await anext(events)]

    assert [event["type"] for event in seen] == ["ADDED", "BOOKMARK"]


async def test_a_watch_from_too_old_a_version_is_an_error_event(server: ApiServer) -> None:
    version = server.store.version
    add_vmi(server, vmi())
    server.store.compact()
    path = f"{VMI_PATH}?watch=1&resourceVersion={version}"
    async with client(server) as http, watching(http, path) as events:
        seen = [event async for event in events]

    assert seen == [
        {
            "type": "ERROR",
            "object": {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": f"too old resource version: {version} ({version + 1})",
                "reason": "Expired",
                "code": 410,
            },
        }
    ]


async def test_faults_make_the_next_watch_gone_in_both_ways(server: ApiServer) -> None:
    server.faults.watches.extend([WatchFault.GONE_STATUS, WatchFault.GONE_EVENT])
    path = f"{VMI_PATH}?watch=1&resourceVersion={server.store.version}"
    async with client(server) as http:
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["reason"]) == (410, "Expired")

        async with watching(http, path) as events:
            assert (await anext(events))["object"]["code"] == 410

        add_vmi(server, vmi())
        async with watching(http, path) as events:
            assert (await anext(events))["type"] == "ADDED"


async def test_columns_of_a_watched_table_are_told_once(server: ApiServer) -> None:
    for name in ("a", "b"):
        add_vmi(server, vmi(name))
    path = f"{VMI_PATH}?watch=1&includeObject=None"
    async with client(server) as http, watching(http, path, **TABLE) as events:
        first, second = await anext(events), await anext(events)

    assert [column["name"] for column in first["object"]["columnDefinitions"]][:3] == [
        "Name",
        "Age",
        "Phase",
    ]
    assert second["object"]["columnDefinitions"] is None
    assert second["object"]["rows"][0]["cells"][0] == "b"


async def test_versions_from_the_future_time_out(server: ApiServer) -> None:
    async with client(server) as http:
        answer = await http.get(VMI_PATH, params={"resourceVersion": "999999"})

    assert answer.status_code == 504
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/apis/foo/v1", 404),
        ("GET", "/api/v1/foos", 404),
        ("GET", "/api/v1/namespaces/demo/nodes", 404),
        ("GET", f"{VMI_PATH}/fedora/status", 404),
        ("POST", "/api/v1/pods", 405),
        ("POST", "/api/v1/namespaces/demo/pods/a/status", 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("PUT", "/version", 405),
        ("PUT", VMI_PATH, 400),
        ("POST", VMI_PATH, 415),
    ],
)
async def test_what_does_not_exist_is_refused(
    server: ApiServer, method: str, path: str, code: int
) -> None:
    add_vmi(server, vmi())
    async with client(server) as http:
        answer = await http.request(method, path)

    assert answer.status_code == code


async def test_a_token_that_expires_is_refused_until_it_is_renewed(server: ApiServer) -> None:
    server.tokens.expire("alice")
    async with client(server, "alice") as http:
        assert (await http.get(VMI_PATH)).status_code == 401

    server.tokens.renew("alice")
    async with client(server, "alice") as http:
        assert (await http.get(VMI_PATH)).status_code == 200


async def test_rights_can_be_given_while_the_server_runs(server: ApiServer) -> None:
    async with client(server, "nobody") as http:
        assert (await http.get(VMI_PATH)).status_code == 403

        server.rbac.bindings.append(Binding("nobody", VIEW, SubjectKind.USER, "nobody", DEMO))
        assert (await http.get(VMI_PATH)).status_code == 200


async def test_an_outage_forgets_nothing_and_comes_back_on_the_same_port(
    server: ApiServer,
) -> None:
    add_vmi(server, vmi())
    url, version = server.url, server.store.version
    await server.stop()
    async with client(server) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(VMI_PATH)

        await server.start()
        answer = await http.get(VMI_PATH)

    assert server.url == url
    assert named(answer) == ["fedora"]
    assert answer.json()["metadata"]["resourceVersion"] == str(version)


async def test_a_stop_ends_watches(server: ApiServer) -> None:
    async with client(server) as http:
        with pytest.raises(httpx.HTTPError):
            async with watching(http, f"{VMI_PATH}?watch=1") as events:
                await server.stop()
                await anext(events)


async def test_answers_can_be_slow(server: ApiServer) -> None:
    server.faults.response_delay_s = 0.1
    loop = asyncio.get_running_loop()
    async with client(server) as http:
        began = loop.time()
        await http.get("/version")

    assert loop.time() - began >= 0.1


async def test_all_is_kept_in_the_folder_over_a_restart_of_the_process(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    async with ApiServer(folder) as first:
        add_vmi(first, vmi())
        token, ca_pem = first.tokens["alice"], first.ca_pem

    async with ApiServer(folder) as second:
        assert second.store.get(VMIS, "demo", "fedora") is not None
        assert (second.tokens["alice"], second.ca_pem) == (token, ca_pem)
    assert stat.S_IMODE((folder / "state.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LabError, match=f"cannot listen on port {port}"):
            async with ApiServer(tmp_path / "lab", port=port):
                pass


async def test_the_certificate_of_virt_handler_is_for_nodes_only(
    server: ApiServer, tmp_path: Path
) -> None:
    path = tmp_path / "nodes.kubeconfig"
    server.write_account_kubeconfig(path, HANDLER)
    token = json.loads(path.read_text())["users"][0]["user"]["token"]
    secret = f"/api/v1/namespaces/kubevirt/secrets/{HANDLER_CERTIFICATE}"
    authority = f"/api/v1/namespaces/kubevirt/configmaps/{KUBEVIRT_CA}"
    async with client(server, "alice") as alice, client(server, "") as node:
        node.headers["Authorization"] = f"Bearer {token}"

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert set((await node.get(secret)).json()["data"]) == {"tls.crt", "tls.key"}
        assert "BEGIN CERTIFICATE" in (await node.get(authority)).json()["data"]["ca-bundle"]
        assert (await alice.get(secret)).status_code == 403


MIGRATE_PATH = "/apis/subresources.kubevirt.io/v1/namespaces/demo/virtualmachines/fedora/migrate"


async def test_a_migration_is_asked_for_by_a_subresource(server: ApiServer) -> None:
    add_vm(server, vm())
    add_vmi(server, vmi())
    server.rbac.bindings.append(Binding("m", MIGRATE, SubjectKind.USER, "alice", DEMO))
    async with client(server, "alice") as http:
        answer = await http.put(MIGRATE_PATH, json={"addedNodeSelector": {"a": "b"}})
        again = await http.put(MIGRATE_PATH, json={})
        [made] = (await http.get(VMIM_PATH)).json()["items"]

    assert (answer.status_code, answer.content) == (202, b"")
    assert made["metadata"]["generateName"] == "kubevirt-migrate-vm-"
    assert made["spec"] == {"vmiName": "fedora", "addedNodeSelector": {"a": "b"}}
    assert again.status_code == 500
    assert "in-flight migration detected" in again.json()["message"]


async def test_what_does_not_run_is_not_migrated(server: ApiServer) -> None:
    async with client(server) as http:
        assert (await http.put(MIGRATE_PATH, json={})).json()["message"] == (
            'virtualmachine.kubevirt.io "fedora" not found'
        )
        add_vm(server, vm())
        assert (await http.put(MIGRATE_PATH, json={})).json()["message"] == (
            'virtualmachineinstance.kubevirt.io "fedora" not found'
        )
        add_vmi(server, vmi(phase="Scheduled"))
        assert (await http.put(MIGRATE_PATH, json={})).json()["message"] == (
            'Operation cannot be fulfilled on virtualmachine.kubevirt.io "fedora": '
            "VM is not running"
        )


async def test_kubevirt_tells_its_version(server: ApiServer) -> None:
    async with client(server, "nobody") as http:
        answer = await http.get("/apis/subresources.kubevirt.io/v1/version")

    assert answer.json()["gitVersion"] == "v1.9.0"


async def test_discovery_tells_resources_but_not_usbredir(server: ApiServer) -> None:
    async with client(server, "nobody") as http:
        kubevirt = (await http.get("/apis/kubevirt.io/v1")).json()["resources"]
        streams = (await http.get("/apis/subresources.kubevirt.io/v1")).json()["resources"]
        groups = (await http.get("/apis")).json()["groups"]

    assert {"name", "kind", "verbs", "shortNames"} <= set(kubevirt[0])
    assert "virtualmachineinstances/vnc" in {each["name"] for each in streams}
    assert "virtualmachineinstances/usbredir" not in {each["name"] for each in streams}
    assert {"kubevirt.io", "coordination.k8s.io"} <= {group["name"] for group in groups}


async def test_a_pod_is_bound_to_a_node_once(server: ApiServer) -> None:
    pods = "/api/v1/namespaces/demo/pods"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "node1"},
    }
    async with client(server) as http:
        await http.post(pods, json=pod)
        first = await http.post(f"{pods}/p/binding", json=binding)
        second = await http.post(f"{pods}/p/binding", json=binding)
        bound = (await http.get(f"{pods}/p")).json()

    assert (first.status_code, second.status_code) == (201, 409)
    assert bound["spec"]["nodeName"] == "node1"


# The texts of kube-apiserver 1.36.
BAD_QUERIES = [
    ({"limit": "x"}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    (
        {"continue": "abc"},
        400,
        "invalid continue token: continue key is not valid: invalid character 'i' looking for "
        "beginning of value",
    ),
    (
        {"resourceVersion": "x"},
        400,
        'invalid resource version: resourceVersion: Invalid value: "x": strconv.ParseUint: '
        'parsing "x": invalid syntax',
    ),
    (
        {"watch": "1", "resourceVersion": "x"},
        500,
        'resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax',
    ),
    ({"watch": "1", "timeoutSeconds": "x"}, 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    (
        {"watch": "1", "sendInitialEvents": "true"},
        422,
        'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
    ),
]


@pytest.mark.parametrize(("query", "code", "message"), BAD_QUERIES)
async def test_a_query_that_makes_no_sense_is_refused(
    server: ApiServer, query: dict[str, str], code: int, message: str
) -> None:
    async with client(server) as http:
        answer = await http.get(VMI_PATH, params=query)

    assert (answer.status_code, answer.json()["message"]) == (code, message)


UNREADABLE = "the object provided is unrecognized (must be of type VirtualMachineInstance): "
BAD_BODIES = [
    (
        b"zz",
        f"{UNREADABLE}couldn't get version/kind; json parse error: invalid character 'z' looking "
        "for beginning of value (7a7a)",
    ),
    (
        b'{"a":',
        f"{UNREADABLE}couldn't get version/kind; json parse error: unexpected end of JSON input "
        "(7b2261223a)",
    ),
    (
        b"[]",
        f"{UNREADABLE}couldn't get version/kind; json parse error: json: cannot unmarshal into "
        "an object",
    ),
    (b"{}", f"{UNREADABLE}Object 'Kind' is missing in '{{}}' ({{}})"),
    (b" " * (3 << 20) + b"{}", "the request body is larger than 3145728 bytes"),
]


@pytest.mark.parametrize(("body", "message"), BAD_BODIES)
async def test_a_body_that_is_no_object_is_refused(
    server: ApiServer, body: bytes, message: str
) -> None:
    headers = {"Content-Type": "application/json"}
    async with client(server) as http:
        answer = await http.post(VMI_PATH, content=body, headers=headers)

    assert (answer.status_code, answer.json()["message"]) == (400, message)


async def test_all_objects_of_a_selection_are_deleted(server: ApiServer) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/demo/leases"
    async with client(server) as http:
        for name, labels in (("a", {"x": "y"}), ("b", {"x": "y"}), ("c", {})):
            await http.post(leases, json={"metadata": {"name": name, "labels": labels}})
        answer = await http.delete(leases, params={"labelSelector": "x=y"})
        left = await http.get(leases)

    assert named(answer) == ["a", "b"]
    assert named(left) == ["c"]


async def test_metadata_alone_can_be_asked_for(server: ApiServer) -> None:
    add_vmi(server, vmi())
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    async with client(server) as http:
        answer = (await http.get(VMI_PATH, headers={"Accept": accept})).json()
        one = (await http.get(f"{VMI_PATH}/fedora", headers={"Accept": accept})).json()

    assert answer["kind"] == "PartialObjectMetadataList"
    assert set(answer["items"][0]) == {"kind", "apiVersion", "metadata"}
    assert one["kind"] == "PartialObjectMetadata"


ACCESS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


async def test_access_to_resources_and_paths_can_be_asked_for(server: ApiServer) -> None:
    usbredir = {
        "verb": "get",
        "group": "subresources.kubevirt.io",
        "resource": "virtualmachineinstances",
        "subresource": "usbredir",
        "namespace": "demo",
    }
    path = {"verb": "get", "path": "/version"}
    async with client(server, "alice") as http:
        may = (await http.post(ACCESS, json={"spec": {"resourceAttributes": usbredir}})).json()
        read = (await http.post(ACCESS, json={"spec": {"nonResourceAttributes": path}})).json()
        nothing = await http.post(ACCESS, json={"spec": {}})
        got = await http.get(ACCESS)
    async with client(server, "viewer") as http:
        may_not = (await http.post(ACCESS, json={"spec": {"resourceAttributes": usbredir}})).json()

    assert may["status"]["allowed"]
    assert read["status"]["allowed"]
    assert may_not["status"] == {"allowed": False}
    assert nothing.status_code == 422
    assert got.status_code == 403
