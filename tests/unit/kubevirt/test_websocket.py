"""How a websocket is opened, refused, redirected, cancelled."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from kubectl_vmredir.errors import (
    CertificateRejected,
    ClusterError,
    ClusterUnreachable,
    RedirectRefused,
)
from kubectl_vmredir.k8s.kubeconfig import UserConfig
from kubectl_vmredir.kubevirt.handshake import Refusal
from kubectl_vmredir.kubevirt.stream import Websocket
from kubectl_vmredir.kubevirt.websocket import dial
from tests.support.certificates import Authority
from tests.support.scripted_server import (
    BINARY,
    Exchange,
    ScriptedServer,
    frame_bytes,
)
from tests.support.websockets import AUTHORITY, PATH, Ears, World, accepting, nothing


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack, tmp_path)


# -- the handshake --------------------------------------------------------------------------


async def test_handshake_is_what_virt_api_wants(world: World) -> None:
    server = await world.serve(accepting(nothing))

    found = await world.dial(server, Ears())

    assert isinstance(found, Websocket)
    (request,) = server.requests
    assert (request.method, request.target) == ("GET", PATH)
    assert request.header("authorization") == "Bearer s3cret"
    assert request.header("sec-websocket-protocol") == "plain.kubevirt.io"
    assert request.header("sec-websocket-version") == "13"
    assert request.header("sec-websocket-extensions") == ""
    assert request.header("user-agent").startswith("kubectl-vmredir/")
    assert request.header("host") == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("cut", ["records", "bytes", "chunked", "to the end of the stream"])
async def test_refusal_is_read_to_the_end_of_its_body(world: World, cut: str) -> None:
    body = b'{"kind": "Status", "message": "Not configured with USB Redirection"}'

    async def script(exchange: Exchange) -> None:
        sized = exchange.head(409, {"Content-Length": str(len(body))}) + body
        match cut:
            case "records":  # as kube-apiserver echoes what virt-api answered
                for line in sized.splitlines(keepends=True):
                    await exchange.write(line)
            case "bytes":
                for byte in sized:
                    await exchange.write(bytes([byte]))
            case "chunked":
                await exchange.write(exchange.head(409, {"Transfer-Encoding": "chunked"}))
                await exchange.write(b"4\r\n%b\r\n" % body[:4])
                await exchange.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) - 4, body[4:]))
            case _:
                await exchange.write(exchange.head(409, {"Connection": "close"}) + body[:9])
                await exchange.write(body[9:])
                exchange.say_goodbye()

    found = await world.dial(await world.serve(script), Ears())

    assert isinstance(found, Refusal)
    assert found.status == 409
    assert found.body == body


async def test_endless_refusal_is_cut(world: World) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.head(500, {"Content-Length": "99999999"}))
        while True:
            await exchange.write(b"x" * 65536)

    found = await world.dial(await world.serve(script), Ears())

    assert isinstance(found, Refusal)
    assert len(found.body) == 65536


async def test_bytes_right_behind_the_101_are_not_lost(world: World) -> None:
    ears = Ears()

    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance() + frame_bytes(BINARY, b"hello"))
        await exchange.until_closed()

    await world.open(script, ears)
    await ears.until(lambda: ears.heard)

    assert bytes(ears.heard) == b"hello"


async def test_101_in_single_bytes_is_understood(world: World) -> None:
    ears = Ears()

    async def script(exchange: Exchange) -> None:
        for byte in exchange.acceptance() + frame_bytes(BINARY, b"hello"):
            await exchange.write(bytes([byte]))
        await exchange.until_closed()

    await world.open(script, ears)
    await ears.until(lambda: len(ears.heard) == 5)

    assert bytes(ears.heard) == b"hello"


async def test_wrong_accept_key_is_no_websocket(world: World) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance({"Sec-WebSocket-Accept": "bm90IGl0"}))

    with pytest.raises(ClusterError, match="does not speak websocket"):
        await world.dial(await world.serve(script), Ears())


async def test_what_is_not_http_is_a_refusal_without_status(world: World) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    found = await world.dial(await world.serve(script), Ears())

    assert isinstance(found, Refusal)
    assert found.status == 0


@pytest.mark.parametrize("way", ["goodbye", "cut", "reset"])
async def test_connection_that_ends_unanswered_is_unreachable(world: World, way: str) -> None:
    async def script(exchange: Exchange) -> None:
        {"goodbye": exchange.say_goodbye, "cut": exchange.cut, "reset": exchange.reset}[way]()

    with pytest.raises(ClusterUnreachable):
        await world.dial(await world.serve(script), Ears())


async def test_silent_server_is_given_up(world: World) -> None:
    gone = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.read_to_end()
        gone.set()

    server = await world.serve(script)
    access = await world.access(server)
    with pytest.raises(ClusterUnreachable, match="does not answer in time"):
        await dial(f"{access.server}{PATH}", access, Ears(), answer_timeout_s=0.05)

    async with asyncio.timeout(1):
        await gone.wait()


async def test_port_where_nobody_listens_is_unreachable(world: World) -> None:
    server = await world.serve(accepting(nothing))
    access = await world.access(server)

    with pytest.raises(ClusterUnreachable, match=r"cannot reach https://127\.0\.0\.1"):
        await dial("https://127.0.0.1:1/x", access, Ears())


async def test_certificate_of_another_authority_is_rejected(world: World) -> None:
    server = await world.serve(accepting(nothing))

    with pytest.raises(CertificateRejected):
        await world.dial(server, Ears(), ca=Authority("other").pem)
    assert server.requests == []


async def test_certificate_for_another_name_is_rejected(world: World) -> None:
    server = await world.serve(accepting(nothing), "elsewhere.example")

    with pytest.raises(CertificateRejected):
        await world.dial(server, Ears())
    assert server.requests == []


async def test_tls_server_name_is_what_the_certificate_is_checked_for(world: World) -> None:
    server = await world.serve(accepting(nothing), "elsewhere.example")

    found = await world.dial(server, Ears(), tls_server_name="elsewhere.example")

    assert isinstance(found, Websocket)


async def test_insecure_takes_any_certificate(world: World) -> None:
    server = await world.serve(accepting(nothing), "elsewhere.example")

    found = await world.dial(server, Ears(), ca=None, insecure=True)

    assert isinstance(found, Websocket)


async def test_client_certificate_is_shown(world: World) -> None:
    server = await world.serve(accepting(nothing))
    certificate, key = AUTHORITY.client("alice")

    await world.dial(server, Ears(), user=UserConfig(certificate=certificate, key=key))

    assert server.requests[0].user == "alice"
    assert server.requests[0].header("authorization") == ""


# -- redirects ------------------------------------------------------------------------------


async def test_redirect_on_the_same_server_is_followed(world: World) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.target == PATH:
            await exchange.answer(307, headers={"Location": "/moved"})
        else:
            await accepting(nothing)(exchange)

    server = await world.serve(script)
    found = await world.dial(server, Ears())

    assert isinstance(found, Websocket)
    assert [request.target for request in server.requests] == [PATH, "/moved"]


async def test_redirect_to_another_port_is_refused_and_nothing_goes_there(world: World) -> None:
    other = await world.serve(accepting(nothing))

    async def script(exchange: Exchange) -> None:
        await exchange.answer(307, headers={"Location": f"{other.url}/steal"})

    with pytest.raises(RedirectRefused, match=rf"sends us to {other.url}/steal"):
        await world.dial(await world.serve(script), Ears())
    assert other.requests == []


async def test_redirect_in_circles_is_refused(world: World) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(302, headers={"Location": PATH})

    server = await world.serve(script)
    with pytest.raises(RedirectRefused):
        await world.dial(server, Ears())
    assert len(server.requests) == 4


# -- cancellation ---------------------------------------------------------------------------


async def test_dial_that_is_cancelled_early_leaves_no_connection(world: World) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        asked.set()
        await exchange.read_to_end()
        gone.set()

    server = await world.serve(script)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.dial(server, Ears()))
        await asked.wait()
        task.cancel()

    assert task.cancelled()
    async with asyncio.timeout(1):
        await gone.wait()


async def test_cancellation_after_the_101_waits_until_the_caller_has_the_websocket(
    world: World,
) -> None:
    found: list[Websocket | Refusal] = []
    reached_next_wait = False

    class CancelAtFirstByte(Ears):
        def received(self, data: memoryview) -> None:
            super().received(data)
            task.cancel()  # between the 101 and the return of dial

    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance() + frame_bytes(BINARY, b"hello"))
        await exchange.until_closed()

    ears = CancelAtFirstByte()
    server = await world.serve(script)
    access = await world.access(server)

    async def owner() -> None:
        nonlocal reached_next_wait
        found.append(await dial(f"{access.server}{PATH}", access, ears))
        reached_next_wait = True
        await asyncio.sleep(5)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(owner())

    (stream,) = found
    assert isinstance(stream, Websocket)
    assert reached_next_wait
    assert task.cancelled()
    assert ears.cause is None
    await stream.close()


# -- proxies --------------------------------------------------------------------------------


async def test_proxy_is_asked_for_a_tunnel_and_sees_no_token(world: World, tmp_path: Path) -> None:
    server = await world.serve(accepting(nothing))

    async with ScriptedServer(Exchange.tunnel) as proxy:
        found = await world.dial(
            server, Ears(), proxy_url=f"http://user:pass@127.0.0.1:{proxy.port}"
        )
        assert isinstance(found, Websocket)
        await found.close()

    (request,) = proxy.requests
    assert (request.method, request.target) == ("CONNECT", f"127.0.0.1:{server.port}")
    assert request.header("proxy-authorization") == "Basic dXNlcjpwYXNz"
    assert request.header("authorization") == ""


async def test_proxy_that_refuses_is_named(world: World) -> None:
    server = await world.serve(accepting(nothing))

    async def script(exchange: Exchange) -> None:
        await exchange.answer(407)

    async with ScriptedServer(script) as proxy:
        with pytest.raises(ClusterUnreachable, match=r"the proxy .* refused") as caught:
            await world.dial(server, Ears(), proxy_url=f"http://user:pass@127.0.0.1:{proxy.port}")

    assert "pass" not in f"{caught.value} {caught.value.hint}"


# -- secrets --------------------------------------------------------------------------------


async def test_token_is_in_no_log_however_verbose(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    server = await world.serve(accepting(nothing))

    await world.dial(server, Ears())

    assert "s3cret" not in caplog.text


async def test_certificate_is_checked_behind_a_proxy_and_nothing_stays_open(world: World) -> None:
    server = await world.serve(accepting(nothing))

    async with ScriptedServer(Exchange.tunnel) as proxy:
        with pytest.raises(CertificateRejected):
            await world.dial(
                server,
                Ears(),
                ca=Authority("other").pem,
                proxy_url=f"http://127.0.0.1:{proxy.port}",
            )
    gc.collect()  # a socket that is left open warns, and warnings are errors

    assert server.requests == []
