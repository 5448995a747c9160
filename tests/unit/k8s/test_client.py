from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kubectl_vmredir.errors import (
    CertificateRejected,
    ClusterError,
    ClusterUnreachable,
    KubeconfigError,
    LoginRequired,
    RedirectRefused,
)
from kubectl_vmredir.k8s.client import JSON_PATCH, KubeClient
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, ExecPlugin, Impersonation, UserConfig
from kubectl_vmredir.k8s.status import StatusError, TransientStatusError
from tests.support.api_client import client_of, content, listing, query, status, thing
from tests.support.certificates import Authority
from tests.support.scripted_server import Exchange, Script, ScriptedServer

AUTHORITY = Authority()


def answering(code: int, body: Any = b"", **headers: str) -> Script:  # noqa: ANN401
    async def script(exchange: Exchange) -> None:
        await exchange.answer(code, body, headers)

    return script


# -- verbs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "method", "content_type", "body"),
    [
        (lambda c: c.get("/x"), "GET", "", None),
        (lambda c: c.create("/x", {"a": 1}), "POST", "application/json", {"a": 1}),
        (lambda c: c.update("/x", {"a": 1}), "PUT", "application/json", {"a": 1}),
        (lambda c: c.patch("/x", {"a": 1}), "PATCH", "application/merge-patch+json", {"a": 1}),
        (
            lambda c: c.patch("/x", [{"op": "test"}], content_type=JSON_PATCH),
            "PATCH",
            "application/json-patch+json",
            [{"op": "test"}],
        ),
        (lambda c: c.delete("/x"), "DELETE", "", None),
        (lambda c: c.delete("/x", {"a": 1}), "DELETE", "application/json", {"a": 1}),
    ],
)
async def test_verb(
    call: Callable[[KubeClient], Awaitable[Any]],
    method: str,
    content_type: str,
    body: Any,  # noqa: ANN401
) -> None:
    async with client_of(answering(200, {"kind": "Thing"})) as (client, server):
        assert await call(client) == {"kind": "Thing"}

    (request,) = server.requests
    assert (request.method, request.target) == (method, "/x")
    assert request.header("content-type") == content_type
    assert request.header("accept") == "application/json"
    assert request.header("user-agent").startswith("kubectl-vmredir/")
    assert (content(request) if request.body else None) == body


async def test_empty_answer_is_an_empty_object() -> None:
    async with client_of(answering(202)) as (client, _server):
        assert await client.update("/x", {}) == {}


async def test_path_of_the_server_url_is_kept() -> None:
    async with (
        ScriptedServer(answering(200, {})) as server,
        KubeClient(ClusterConfig(f"{server.url}/k8s/clusters/c1")) as client,
    ):
        await client.get("/version")

    assert server.requests[0].target == "/k8s/clusters/c1/version"


async def test_refusal_is_raised_with_its_parts() -> None:
    refused = status(409, "Conflict", "the object has been modified")
    async with client_of(answering(409, refused)) as (client, _server):
        with pytest.raises(StatusError) as caught:
            await client.update("/x", {})

    assert (caught.value.status, caught.value.reason) == (409, "Conflict")


async def test_answer_that_is_not_json_is_not_believed() -> None:
    page = b"<html><title>Please log in</title>"
    async with client_of(answering(200, page)) as (client, _server):
        with pytest.raises(ClusterError, match="does not answer like an API server") as caught:
            await client.get("/x")

    assert caught.value.hint is not None
    assert "login page" in caught.value.hint


async def test_answer_without_end_is_not_read_to_the_end() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.head(200, {"Content-Length": str(1 << 40)}))
        while True:
            await exchange.write(bytes(1 << 20))

    async with client_of(script) as (client, _server):
        with pytest.raises(ClusterError, match="has no end"):
            await client.get("/x")


async def test_slow_answer_is_given_up_at_the_request_timeout() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.head(200, {"Content-Length": "9"}))
        await exchange.read_to_end()

    async with client_of(script, request_timeout_s=0.3) as (client, _server):
        with pytest.raises(ClusterUnreachable, match="does not answer in time"):
            await client.get("/x")


async def test_server_that_is_not_there_is_unreachable() -> None:
    async with KubeClient(ClusterConfig("http://127.0.0.1:1")) as client:
        with pytest.raises(ClusterUnreachable, match=r"cannot reach http://127\.0\.0\.1:1: "):
            await client.get("/x")


# -- who we are -----------------------------------------------------------------------------


async def test_impersonation_is_sent(tmp_path: Path) -> None:
    who = Impersonation("carol", ("g1", "g2"), "7", {"Scopes/x": ("a", "b")})
    async with client_of(answering(200, {}), impersonation=who) as (client, server):
        await client.get("/x")

    found = [pair for pair in server.requests[0].headers if pair[0].startswith("impersonate-")]
    assert found == [
        ("impersonate-user", "carol"),
        ("impersonate-uid", "7"),
        ("impersonate-group", "g1"),
        ("impersonate-group", "g2"),
        ("impersonate-extra-scopes%2fx", "a"),
        ("impersonate-extra-scopes%2fx", "b"),
    ]


async def test_nobody_is_told_who_we_are_over_plain_http() -> None:
    user = UserConfig(token="s3cret", username="u", password="p")
    async with client_of(answering(200, {}), user=user) as (client, server):
        await client.get("/x")

    assert server.requests[0].header("authorization") == ""


def counting_plugin(folder: Path) -> ExecPlugin:
    """Return a plugin whose tokens are t1, t2, ..."""
    script = (
        f"echo >> {folder}/runs; n=$(wc -l < {folder}/runs); "
        'echo \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", '
        '"status": {"token": "t\'$n\'"}}\''
    )
    version = "client.authentication.k8s.io/v1"
    return ExecPlugin("sh", ("-c", script), {}, version, False, False, "")


async def test_refused_token_is_renewed_once_and_kept_while_it_works(tmp_path: Path) -> None:
    good = "Bearer t2"

    async def script(exchange: Exchange) -> None:
        if exchange.header("authorization") == good:
            await exchange.answer(200, {})
        else:
            await exchange.answer(401, status(401, "Unauthorized", "Unauthorized"))

    context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
    async with ScriptedServer(script, context) as server:
        user = UserConfig(exec=counting_plugin(tmp_path))
        async with KubeClient(ClusterConfig(server.url, user=user, ca=AUTHORITY.pem)) as client:
            await client.get("/x")
            await client.get("/x")
            good = "Bearer never"
            with pytest.raises(LoginRequired):
                await client.get("/x")

    sent = [request.header("authorization") for request in server.requests]
    assert sent == ["Bearer t1", "Bearer t2", "Bearer t2", "Bearer t2", "Bearer t3"]


async def test_client_certificate_that_changes_is_shown_on_new_connections(tmp_path: Path) -> None:
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"

    def become(name: str) -> None:
        for path, data in zip(paths, AUTHORITY.client(name), strict=True):
            path.write_bytes(data)

    context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
    async with ScriptedServer(answering(200, {}), context) as server:
        user = UserConfig(certificate_file=paths[0], key_file=paths[1])
        become("alice")
        async with KubeClient(ClusterConfig(server.url, user=user, ca=AUTHORITY.pem)) as client:
            await client.get("/x")
            await client.get("/x")
            become("alice again")
            await client.get("/x")

    assert [request.user for request in server.requests] == ["alice", "alice", "alice again"]
    assert len({request.peer for request in server.requests}) == 2


async def test_request_under_way_survives_a_new_client_certificate(tmp_path: Path) -> None:
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"

    def become(name: str) -> None:
        for path, data in zip(paths, AUTHORITY.client(name), strict=True):
            path.write_bytes(data)

    asked, go = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.target == "/slow":
            asked.set()
            await go.wait()
        await exchange.answer(200, {"for": exchange.target})

    context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
    async with ScriptedServer(script, context) as server:
        user = UserConfig(certificate_file=paths[0], key_file=paths[1])
        become("alice")
        async with (
            KubeClient(ClusterConfig(server.url, user=user, ca=AUTHORITY.pem)) as client,
            asyncio.TaskGroup() as group,
        ):
            slow = group.create_task(client.get("/slow"))
            await asked.wait()
            become("alice again")
            await client.get("/fast")
            go.set()

    assert slow.result() == {"for": "/slow"}


async def test_broken_client_certificate_is_the_fault_of_the_kubeconfig(tmp_path: Path) -> None:
    user = UserConfig(certificate=b"not PEM", key=b"not PEM")
    async with KubeClient(ClusterConfig("https://127.0.0.1:1", user=user)) as client:
        with pytest.raises(KubeconfigError, match="certificate and key cannot be used"):
            await client.get("/x")


@pytest.mark.parametrize("ca", [b"", b"not PEM", "ä".encode()])
async def test_broken_authority_is_the_fault_of_the_kubeconfig(ca: bytes) -> None:
    async with KubeClient(ClusterConfig("https://127.0.0.1:1", ca=ca)) as client:
        with pytest.raises(KubeconfigError, match="holds no PEM certificate"):
            await client.get("/x")


# -- certificates of the server -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "accepted"),
    [
        ("127.0.0.1", {"ca": AUTHORITY.pem}, True),
        ("127.0.0.1", {"ca": Authority("other").pem}, False),
        ("127.0.0.1", {"ca": None}, False),
        ("127.0.0.1", {"ca": None, "insecure": True}, True),
        ("elsewhere.example", {"ca": AUTHORITY.pem}, False),
        ("elsewhere.example", {"ca": AUTHORITY.pem, "tls_server_name": "elsewhere.example"}, True),
        ("127.0.0.1", {"ca": AUTHORITY.pem, "tls_server_name": "elsewhere.example"}, False),
    ],
)
async def test_certificate(
    tmp_path: Path, name: str, changes: dict[str, Any], accepted: bool
) -> None:
    context = AUTHORITY.server_context(tmp_path, name)
    async with (
        ScriptedServer(answering(200, {}), context) as server,
        KubeClient(ClusterConfig(server.url, **changes)) as client,
    ):
        if accepted:
            assert await client.get("/x") == {}
        else:
            with pytest.raises(CertificateRejected):
                await client.get("/x")
            assert server.requests == []


async def test_insecure_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async with KubeClient(ClusterConfig("https://api", insecure=True)):
        pass

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "the certificate of https://api is not checked"


async def test_plain_http_on_the_port_of_tls_is_no_tls() -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        host, port = server.sockets[0].getsockname()
        async with KubeClient(ClusterConfig(f"https://{host}:{port}")) as client:
            with pytest.raises(ClusterUnreachable, match="no TLS with"):
                await client.get("/x")


async def test_tls_server_name_holds_behind_a_proxy(tmp_path: Path) -> None:
    context = AUTHORITY.server_context(tmp_path, "elsewhere.example")
    async with (
        ScriptedServer(answering(200, {}), context) as server,
        ScriptedServer(Exchange.tunnel) as proxy,
    ):
        config = ClusterConfig(
            server.url,
            ca=AUTHORITY.pem,
            tls_server_name="elsewhere.example",
            proxy_url=f"http://user:pass@127.0.0.1:{proxy.port}",
        )
        async with KubeClient(config) as client:
            assert await client.get("/x") == {}

        (request,) = proxy.requests
        assert (request.method, request.target) == ("CONNECT", f"127.0.0.1:{server.port}")
        assert request.header("proxy-authorization") == "Basic dXNlcjpwYXNz"


async def test_proxy_that_refuses_is_named_without_its_password(tmp_path: Path) -> None:
    async with ScriptedServer(answering(407)) as proxy:
        url = f"http://user:p4ss@127.0.0.1:{proxy.port}"
        async with KubeClient(ClusterConfig("https://api", proxy_url=url)) as client:
            with pytest.raises(ClusterUnreachable, match=r"the proxy .* refused: 407") as caught:
                await client.get("/x")

    assert "p4ss" not in f"{caught.value}{caught.value.hint}"


# -- redirects ------------------------------------------------------------------------------


async def test_redirect_on_the_same_server_is_followed() -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.target.startswith("/old"):
            await exchange.answer(307, headers={"Location": "/new"})
        else:
            await exchange.answer(200, {"at": exchange.target})

    async with client_of(script) as (client, _server):
        assert await client.get("/old", {"a": "b"}) == {"at": "/new"}


async def test_redirect_to_another_server_is_refused_and_nothing_goes_there() -> None:
    async with ScriptedServer(answering(200, {})) as other:
        elsewhere = answering(302, Location=f"{other.url}/x")
        async with client_of(elsewhere) as (client, _server):
            with pytest.raises(RedirectRefused, match=re.escape(other.url)):
                await client.get("/x")
        assert other.requests == []


async def test_redirect_in_circles_is_refused() -> None:
    async with client_of(answering(302, Location="/x")) as (client, server):
        with pytest.raises(RedirectRefused, match="in circles"):
            await client.get("/x")
        assert len(server.requests) == 4


async def test_what_changes_something_is_not_redirected() -> None:
    async with client_of(answering(307, Location="/y")) as (client, server):
        with pytest.raises(ClusterError, match="redirects a POST"):
            await client.create("/x", {})
        assert len(server.requests) == 1


# -- lists ----------------------------------------------------------------------------------


async def test_list_comes_in_pages() -> None:
    async def script(exchange: Exchange) -> None:
        if query(exchange).get("continue") == "more":
            await exchange.answer(200, listing(thing("b"), version=7))
        else:
            await exchange.answer(200, listing(thing("a"), version=7, following="more"))

    async with client_of(script) as (client, server):
        found = await client.list_all("/things", {"labelSelector": "a=b"})

    assert [item["metadata"]["name"] for item in found.items] == ["a", "b"]
    assert found.resource_version == "7"
    assert all(query(request)["limit"] == "500" for request in server.requests)
    assert all(query(request)["labelSelector"] == "a%3Db" for request in server.requests)


async def test_list_that_expires_between_pages_is_asked_for_in_one_piece() -> None:
    async def script(exchange: Exchange) -> None:
        asked = query(exchange)
        if "continue" in asked:
            await exchange.answer(410, status(410, "Expired", "the provided continue is too old"))
        elif "limit" in asked:
            await exchange.answer(200, listing(thing("a"), version=7, following="more"))
        else:
            await exchange.answer(200, listing(thing("a"), thing("b"), version=9))

    async with client_of(script) as (client, _server):
        found = await client.list_all("/things")

    assert len(found.items) == 2
    assert found.resource_version == "9"


@pytest.mark.parametrize(
    "body", [{}, {"items": None}, {"items": [], "metadata": None}, {"metadata": []}]
)
async def test_empty_list_of_any_shape_is_empty(body: dict[str, Any]) -> None:
    async with client_of(answering(200, body)) as (client, _server):
        assert list((await client.list_all("/things")).items) == []


async def test_list_that_is_none_is_refused() -> None:
    async with client_of(answering(200, {"items": "many"})) as (client, _server):
        with pytest.raises(ClusterError, match="is not a list"):
            await client.list_all("/things")


async def test_refused_list_is_not_asked_for_twice() -> None:
    async with client_of(answering(500, b"etcd")) as (client, server):
        with pytest.raises(TransientStatusError):
            await client.list_all("/things")
        assert len(server.requests) == 1


# -- secrets --------------------------------------------------------------------------------


async def test_token_is_in_no_log_and_no_repr(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
    async with ScriptedServer(answering(200, {}), context) as server:
        user = UserConfig(token="s3cret")
        async with KubeClient(ClusterConfig(server.url, user=user, ca=AUTHORITY.pem)) as client:
            await client.get("/x")
            shown = repr(await client.access()) + repr(client.config)

    assert server.requests[0].header("authorization") == "Bearer s3cret"
    assert "s3cret" not in caplog.text
    assert "s3cret" not in shown
