from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kubectl_vmredir.errors import (
    ClusterError,
    Forbidden,
    MigrationRefused,
    VmiNotFound,
)
from kubectl_vmredir.k8s.kubeconfig import Impersonation, UserConfig
from kubectl_vmredir.k8s.status import TransientStatusError
from kubectl_vmredir.kubevirt.cluster import KubevirtCluster
from kubectl_vmredir.model import Identity, VmiRef
from kubectl_vmredir.service.ports import (
    ClusterEvent,
    VmiGone,
    VmimGone,
    VmimSeen,
    VmiSeen,
    WatchLost,
    WatchRestored,
)
from tests.support.api_client import client_of, content, listing, query, status
from tests.support.scripted_server import Exchange, Script, ScriptedServer

ALL_VMIS = "/apis/kubevirt.io/v1/virtualmachineinstances"
VMIS = "/apis/kubevirt.io/v1/namespaces/demo/virtualmachineinstances"
VMIMS = "/apis/kubevirt.io/v1/namespaces/demo/virtualmachineinstancemigrations"
MIGRATE = "/apis/subresources.kubevirt.io/v1/namespaces/demo/virtualmachines/desk/migrate"
REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
VM = "/apis/kubevirt.io/v1/namespaces/demo/virtualmachines/desk"
DESK = VmiRef("demo", "desk")

Answers = Mapping[tuple[str, str], tuple[int, Any] | Script]


def vmi(name: str = "desk", node: str = "node1", version: int = 1) -> dict[str, Any]:
    meta = {"namespace": "demo", "name": name, "uid": f"u-{name}", "resourceVersion": str(version)}
    return {"metadata": meta, "spec": {}, "status": {"phase": "Running", "nodeName": node}}


def vmim(name: str, vmi_name: str = "desk", phase: str = "") -> dict[str, Any]:
    meta = {"namespace": "demo", "name": name, "uid": f"m-{name}", "resourceVersion": "1"}
    return {"metadata": meta, "spec": {"vmiName": vmi_name}, "status": {"phase": phase}}


def forbidden(verb: str, resource: str, where: str) -> tuple[int, Any]:
    return 403, status(
        403,
        "Forbidden",
        f'x is forbidden: User "alice" cannot {verb} resource "{resource}" in API group '
        f'"kubevirt.io" {where}',
    )


def answering(answers: Answers) -> Script:
    """Answer by method and path; anything else is a bare 404."""

    async def script(exchange: Exchange) -> None:
        path = exchange.target.partition("?")[0]
        answer = answers.get((exchange.method, path), (404, b"404 page not found\n"))
        if callable(answer):
            await answer(exchange)
        else:
            await exchange.answer(*answer)

    return script


# -- lists ----------------------------------------------------------------------------------


async def test_vmis_of_a_namespace_by_label() -> None:
    script = answering({("GET", VMIS): (200, listing(vmi("a"), vmi("b")))})
    async with client_of(script) as (client, server):
        found = await KubevirtCluster(client).vmis("demo", "app=x")

    assert [view.ref.name for view in found] == ["a", "b"]
    assert query(server.requests[0])["labelSelector"] == "app%3Dx"


async def test_who_may_not_list_all_namespaces_is_shown_that_of_the_context(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = answering(
        {
            ("GET", ALL_VMIS): forbidden("list", "virtualmachineinstances", "at the cluster scope"),
            ("GET", VMIS): (200, listing(vmi("a"))),
        }
    )
    async with client_of(script, namespace="demo") as (client, server):
        found = await KubevirtCluster(client).vmis(None, "app=x")

    assert [view.ref.name for view in found] == ["a"]
    assert query(server.requests[1])["labelSelector"] == "app%3Dx"
    assert "showing namespace demo only" in caplog.text


async def test_who_may_not_list_the_namespace_is_told_so() -> None:
    script = answering(
        {("GET", VMIS): forbidden("list", "virtualmachineinstances", 'in the namespace "demo"')}
    )
    async with client_of(script) as (client, _server):
        with pytest.raises(Forbidden, match="user 'alice' may not list"):
            await KubevirtCluster(client).vmis("demo")


async def test_cluster_without_kubevirt_is_named_as_such() -> None:
    async with client_of(answering({})) as (client, _server):
        cluster = KubevirtCluster(client)
        with pytest.raises(ClusterError, match="no KubeVirt"):
            await cluster.vmis("demo")
        with pytest.raises(ClusterError, match="no KubeVirt"):
            await cluster.vmi(DESK)
        async with cluster.watch("demo") as events:
            with pytest.raises(ClusterError, match="no KubeVirt"):
                await anext(events)


async def test_one_vmi() -> None:
    async with client_of(answering({("GET", f"{VMIS}/desk"): (200, vmi())})) as (client, _server):
        found = await KubevirtCluster(client).vmi(DESK)

    assert (found.ref, found.node) == (DESK, "node1")


async def test_vmi_that_is_not_there() -> None:
    missing = status(404, "NotFound", 'virtualmachineinstances.kubevirt.io "desk" not found')
    async with client_of(answering({("GET", f"{VMIS}/desk"): (404, missing)})) as (client, _server):
        with pytest.raises(VmiNotFound):
            await KubevirtCluster(client).vmi(DESK)


async def test_name_cannot_lead_to_another_path() -> None:
    async with client_of(answering({})) as (client, server):
        with pytest.raises(ClusterError):
            await KubevirtCluster(client).vmi(VmiRef("demo", "../../secrets?x"))

    assert server.requests[0].target == f"{VMIS}/..%2F..%2Fsecrets%3Fx"


async def test_broken_names_of_slots_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    broken = vmi()
    broken["metadata"]["annotations"] = {"vmredir.io/slots": "a,a"}
    broken["spec"] = {"domain": {"devices": {"clientPassthrough": {}}}}
    script = answering(
        {("GET", VMIS): (200, listing(broken)), ("GET", f"{VMIS}/desk"): (200, broken)}
    )
    async with client_of(script) as (client, _server):
        cluster = KubevirtCluster(client)
        await cluster.vmis("demo")
        found = await cluster.vmi(DESK)

    assert found.slots == ("usb0", "usb1", "usb2", "usb3")
    said = [record.getMessage() for record in caplog.records if "slots" in record.getMessage()]
    assert said == ["VM demo/desk: vmredir.io/slots is ignored: 'a' is the name of two slots"]


# -- migrate --------------------------------------------------------------------------------


async def test_migration_is_asked_for_as_virtctl_names_it() -> None:
    script = answering({("POST", VMIMS): (201, vmim("kubevirt-migrate-vm-x"))})
    async with client_of(script) as (client, server):
        found = await KubevirtCluster(client).migrate(DESK)

    assert (found.name, found.vmi_name) == ("kubevirt-migrate-vm-x", "desk")
    assert content(server.requests[0]) == {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstanceMigration",
        "metadata": {"generateName": "kubevirt-migrate-vm-"},
        "spec": {"vmiName": "desk"},
    }


async def test_who_may_not_create_migrations_asks_virt_api() -> None:
    migrations = [vmim("old"), vmim("of-another", "other")]

    async def put(exchange: Exchange) -> None:
        migrations.append(vmim("new"))
        await exchange.answer(202)

    async def listed(exchange: Exchange) -> None:
        await exchange.answer(200, listing(*migrations))

    script = answering(
        {
            ("POST", VMIMS): forbidden("create", "virtualmachineinstancemigrations", ""),
            ("PUT", MIGRATE): put,
            ("GET", VMIMS): listed,
        }
    )
    async with client_of(script) as (client, _server):
        found = await KubevirtCluster(client).migrate(DESK)

    assert found.name == "new"


async def test_who_may_neither_is_told_the_role() -> None:
    script = answering(
        {
            ("POST", VMIMS): forbidden("create", "virtualmachineinstancemigrations", ""),
            ("PUT", MIGRATE): forbidden("update", "virtualmachines/migrate", ""),
            ("GET", VMIMS): (200, listing()),
        }
    )
    async with client_of(script) as (client, _server):
        with pytest.raises(Forbidden, match="may not update virtualmachines/migrate") as caught:
            await KubevirtCluster(client).migrate(DESK)

    assert caught.value.hint is not None
    assert "kubevirt.io:migrate in namespace demo" in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((409, status(409, "Conflict", "VM is not running")), "is not migrated: VM is not running"),
        ((202, b""), "no migration of VM demo/desk came of it"),
    ],
)
async def test_virt_api_refuses_too(answer: tuple[int, Any], words: str) -> None:
    script = answering(
        {
            ("POST", VMIMS): forbidden("create", "virtualmachineinstancemigrations", ""),
            ("PUT", MIGRATE): answer,
            ("GET", VMIMS): (200, listing()),
        }
    )
    async with client_of(script) as (client, _server):
        with pytest.raises(MigrationRefused, match=words):
            await KubevirtCluster(client).migrate(DESK)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (
            (400, status(400, "BadRequest", "DisksNotLiveMigratable: PVC x is not shared")),
            MigrationRefused,
            "VM demo/desk is not migrated: DisksNotLiveMigratable: PVC x is not shared",
        ),
        (
            (409, status(409, "Conflict", "in-flight migration detected")),
            MigrationRefused,
            "in-flight migration detected",
        ),
        ((404, status(404, "NotFound", "x")), VmiNotFound, "no running VM"),
        ((500, status(500, "InternalError", "webhook")), TransientStatusError, "webhook"),
    ],
)
async def test_migration_that_is_refused(
    answer: tuple[int, Any], error: type[ClusterError], words: str
) -> None:
    async with client_of(answering({("POST", VMIMS): answer})) as (client, _server):
        with pytest.raises(error, match=words):
            await KubevirtCluster(client).migrate(DESK)


# -- identity -------------------------------------------------------------------------------


async def test_identity_is_what_the_cluster_says() -> None:
    user = {"username": "alice", "uid": "7", "groups": ["x"]}
    script = answering({("POST", REVIEWS): (201, {"status": {"userInfo": user}})})
    async with client_of(script) as (client, _server):
        assert await KubevirtCluster(client).identity() == Identity("alice", "7")


@pytest.mark.parametrize("answer", [(404, b"404 page not found"), (201, {"status": {}})])
async def test_identity_is_the_kubeconfigs_where_the_cluster_has_no_review(
    answer: tuple[int, Any],
) -> None:
    script = answering({("POST", REVIEWS): answer})
    async with client_of(script, user=UserConfig(name="alice")) as (client, _server):
        assert await KubevirtCluster(client).identity() == Identity("alice", reviewed=False)

    carol = Impersonation("carol")
    async with client_of(script, impersonation=carol) as (client, _server):
        assert await KubevirtCluster(client).identity() == Identity("carol", reviewed=False)


async def test_identity_is_not_guessed_when_the_cluster_is_down() -> None:
    async with client_of(answering({("POST", REVIEWS): (503, b"")})) as (client, _server):
        with pytest.raises(TransientStatusError):
            await KubevirtCluster(client).identity()


# -- watch ----------------------------------------------------------------------------------


def watched(lists: Mapping[str, list[Any]], events: Mapping[str, list[tuple[str, Any]]]) -> Script:
    """Serve lists by path, then the events of a watch, then silence."""

    async def script(exchange: Exchange) -> None:
        path = exchange.target.partition("?")[0]
        if "watch" not in query(exchange):
            await exchange.answer(200, listing(*lists[path]))
            return
        await exchange.start_watch()
        for kind, obj in events.get(path, []):
            await exchange.event(kind, obj)
        await exchange.read_to_end()

    return script


@asynccontextmanager
async def watching(
    script: Script, vmi_name: str | None = None
) -> AsyncIterator[tuple[AsyncIterator[ClusterEvent], ScriptedServer]]:
    """Watch the namespace demo of a scripted server."""
    async with (
        client_of(script) as (client, server),
        KubevirtCluster(client).watch("demo", vmi_name) as events,
    ):
        yield events, server


async def take(events: AsyncIterator[ClusterEvent], count: int) -> list[str]:
    async with asyncio.timeout(5):
        return [told(await anext(events)) for _ in range(count)]


def told(event: ClusterEvent) -> str:
    match event:
        case VmiSeen(vmi=view):
            return f"{view.ref.name} on {view.node}"
        case VmiGone(vmi=view):
            return f"{view.ref.name} gone"
        case VmimSeen(vmim=view):
            return f"{view.name} {view.phase}".strip()
        case VmimGone(vmim=view):
            return f"{view.name} gone"
        case WatchLost():
            return "lost"
        case WatchRestored():
            return "restored"


async def test_vmis_and_migrations_come_as_one_stream() -> None:
    script = watched(
        {VMIS: [vmi()], VMIMS: [vmim("m", phase="Pending")]},
        {
            VMIS: [("MODIFIED", vmi(node="node2", version=2)), ("DELETED", vmi(version=3))],
            VMIMS: [("MODIFIED", vmim("m", phase="Succeeded")), ("DELETED", vmim("m"))],
        },
    )
    async with watching(script) as (events, _server):
        found = await take(events, 7)

    of_vmi = [word for word in found if word.startswith("desk")]
    of_vmim = [word for word in found if word.startswith("m")]
    assert of_vmi == ["desk on node1", "desk on node2", "desk gone"]
    assert of_vmim == ["m Pending", "m Succeeded", "m gone"]
    assert found.index("restored") > max(found.index(of_vmi[0]), found.index(of_vmim[0]))


async def test_watch_of_one_vmi_asks_for_no_other() -> None:
    script = watched({VMIS: [vmi()], VMIMS: []}, {})
    async with watching(script, "desk") as (events, server):
        assert await take(events, 2) == ["desk on node1", "restored"]

    asked = {r.target.partition("?")[0]: query(r).get("fieldSelector") for r in server.requests}
    assert asked == {VMIS: "metadata.name%3Ddesk", VMIMS: None}


async def test_all_is_restored_only_when_both_watches_are() -> None:
    calls = dict.fromkeys((VMIS, VMIMS), 0)
    vmims_back = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        path = exchange.target.partition("?")[0]
        calls[path] += 1
        if "watch" in query(exchange):
            await exchange.start_watch()
            await exchange.read_to_end()
        elif calls[path] == 1:
            await exchange.answer(503)
        else:
            if path == VMIMS:
                await vmims_back.wait()
            await exchange.answer(200, listing(*([vmi()] if path == VMIS else [])))

    async with watching(script) as (events, _server):
        assert await take(events, 2) == ["lost", "desk on node1"]
        vmims_back.set()
        assert await take(events, 1) == ["restored"]


async def test_vmis_alone_are_watched_in_all_namespaces_by_label() -> None:
    script = watched({ALL_VMIS: [vmi()]}, {ALL_VMIS: [("DELETED", vmi(version=2))]})
    async with (
        client_of(script) as (client, server),
        KubevirtCluster(client).watch_vmis(None, "app=x") as events,
    ):
        assert await take(events, 3) == ["desk on node1", "restored", "desk gone"]

    _probe, *watch = server.requests
    assert {query(request)["labelSelector"] for request in watch} == {"app%3Dx"}


async def test_who_may_not_watch_all_namespaces_watches_that_of_the_context(
    caplog: pytest.LogCaptureFixture,
) -> None:
    of_context = watched({VMIS: [vmi()]}, {})

    async def script(exchange: Exchange) -> None:
        if exchange.target.startswith(VMIS):
            await of_context(exchange)
        else:
            await exchange.answer(
                *forbidden("list", "virtualmachineinstances", "at the cluster scope")
            )

    async with (
        client_of(script, namespace="demo") as (client, _server),
        KubevirtCluster(client).watch_vmis(None) as events,
    ):
        assert await take(events, 2) == ["desk on node1", "restored"]

    assert "showing namespace demo only" in caplog.text


async def test_trouble_that_waiting_does_not_cure_ends_the_stream() -> None:
    script = answering(
        {
            ("GET", VMIS): (200, listing()),
            ("GET", VMIMS): forbidden("list", "virtualmachineinstancemigrations", ""),
        }
    )
    async with watching(script) as (events, _server):
        with pytest.raises(Forbidden, match="virtualmachineinstancemigrations"):
            async with asyncio.timeout(5):
                while True:
                    await anext(events)


async def test_leaving_by_an_error_ends_the_watches_and_keeps_the_error() -> None:
    script = watched({VMIS: [vmi()], VMIMS: []}, {})
    async with client_of(script) as (client, _server):
        with pytest.raises(ZeroDivisionError):
            async with KubevirtCluster(client).watch("demo") as events:
                await take(events, 1)
                raise ZeroDivisionError


async def test_slow_reader_holds_the_watch_back_and_loses_nothing() -> None:
    versions = range(2, 1002)
    script = watched(
        {VMIS: [vmi()], VMIMS: []},
        {VMIS: [("MODIFIED", vmi(node=f"n{v}", version=v)) for v in versions]},
    )
    async with watching(script, "desk") as (events, _server):
        await take(events, 2)
        found = await take(events, len(versions))

    assert found == [f"desk on n{v}" for v in versions]


# -- what may be done -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "may"),
    [
        ({"virtualmachineinstancemigrations"}, True),
        ({"virtualmachines"}, True),
        (set(), False),
    ],
)
async def test_one_may_migrate_by_a_vmim_or_as_virtctl_does(allowed: set[str], may: bool) -> None:
    asked: list[dict[str, Any]] = []

    async def review(exchange: Exchange) -> None:
        attributes = content(exchange)["spec"]["resourceAttributes"]
        asked.append(attributes)
        await exchange.answer(201, {"status": {"allowed": attributes["resource"] in allowed}})

    script = answering({("POST", ACCESS_REVIEWS): review})
    async with client_of(script) as (client, _):
        assert await KubevirtCluster(client).may_migrate("demo") is may

    assert {found["namespace"] for found in asked} == {"demo"}


async def test_an_access_review_without_an_answer_is_an_error() -> None:
    async with client_of(answering({("POST", ACCESS_REVIEWS): (201, {})})) as (client, _):
        with pytest.raises(ClusterError, match="does not say"):
            await KubevirtCluster(client).may_migrate("demo")


# -- names of slots -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "lasting"), [({VM, f"{VMIS}/desk"}, True), ({f"{VMIS}/desk"}, False), ({VM}, True)]
)
async def test_slots_are_named_on_the_template_of_the_vm_and_on_the_vmi(
    there: set[str], lasting: bool
) -> None:
    patched: dict[str, Any] = {}

    async def patch(exchange: Exchange) -> None:
        if exchange.target in there:
            patched[exchange.target] = content(exchange)
            await exchange.answer(200, {})
        else:
            await exchange.answer(404, status(404, "NotFound", "no such thing"))

    script = answering({("PATCH", VM): patch, ("PATCH", f"{VMIS}/desk"): patch})
    async with client_of(script) as (client, _):
        assert await KubevirtCluster(client).name_slots(DESK, ["flash", "token"]) is lasting

    named = {"metadata": {"annotations": {"vmredir.io/slots": "flash,token"}}}
    expected = {VM: {"spec": {"template": named}}, f"{VMIS}/desk": named}
    assert patched == {path: change for path, change in expected.items() if path in there}


async def test_slots_of_a_vm_that_is_not_there_cannot_be_named() -> None:
    gone = (404, status(404, "NotFound", "no such thing"))
    script = answering({("PATCH", VM): gone, ("PATCH", f"{VMIS}/desk"): gone})
    async with client_of(script) as (client, _):
        with pytest.raises(VmiNotFound):
            await KubevirtCluster(client).name_slots(DESK, ["flash"])


async def test_a_vmi_is_shown_as_yaml_without_its_managed_fields() -> None:
    stored = vmi()
    stored["metadata"]["managedFields"] = [{"manager": "virt-controller"}]
    async with client_of(answering({("GET", f"{VMIS}/desk"): (200, stored)})) as (client, _):
        text = await KubevirtCluster(client).vmi_yaml(DESK)

    assert "nodeName: node1" in text
    assert "managedFields" not in text
