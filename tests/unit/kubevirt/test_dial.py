from __future__ import annotations

from pathlib import Path

import pytest

from kubectl_vmredir.errors import (
    ClusterUnreachable,
    Forbidden,
    LoginRequired,
    NoUsbSlots,
    PathBroken,
    StreamLost,
    VmRedirError,
)
from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, ExecPlugin, UserConfig
from kubectl_vmredir.kubevirt.dial import ApiDialer
from kubectl_vmredir.model import Route, Unknown, VmiRef
from kubectl_vmredir.service.ports import Dialer, Link, LinkListener
from tests.support.link_listener import Listener, at_will
from tests.support.scripted_server import BINARY, PONG, Exchange, ScriptedServer
from tests.support.websockets import AUTHORITY, PATH, accepting, nothing

DESK = VmiRef("demo", "desk")


async def echo(exchange: Exchange) -> None:
    """Answer a message and a ping."""
    _, data = await exchange.read_frame()
    await exchange.frame(BINARY, data)
    _, ping = await exchange.read_frame()
    await exchange.frame(PONG, ping)


def config(server: ScriptedServer, user: UserConfig | None = None) -> ClusterConfig:
    return ClusterConfig(server.url, user=user or UserConfig(token="t"), ca=AUTHORITY.pem)


async def test_link_carries_bytes_and_counts_what_it_sent(tmp_path: Path) -> None:
    context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
    async with (
        ScriptedServer(accepting(echo), context) as server,
        KubeClient(config(server)) as client,
    ):
        dialer: Dialer = ApiDialer(client)
        listener = Listener()
        ears: LinkListener = listener
        link: Link = await dialer.dial(DESK, ears, at_will)
        link.send(b"hello")
        await listener.until(lambda: listener.heard)
        link.ping()
        await listener.until(lambda: listener.round_trips_s)
        await link.close()
        link.send(b"into the void")

    assert server.requests[0].target == PATH
    assert bytes(listener.heard) == b"hello"
    assert link.route is Route.API
    assert link.sent == 5 + len(b"into the void")
    assert listener.end is not None
    boundary, cause = listener.end
    assert boundary == Unknown()
    assert type(cause) is StreamLost


async def test_link_that_breaks_knows_no_boundary(tmp_path: Path) -> None:
    async def cut(exchange: Exchange) -> None:
        exchange.cut()

    context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
    async with (
        ScriptedServer(accepting(cut), context) as server,
        KubeClient(config(server)) as client,
    ):
        listener = Listener()
        await ApiDialer(client).dial(DESK, listener, at_will)
        await listener.until(lambda: listener.end)

    assert listener.end is not None
    boundary, cause = listener.end
    assert boundary == Unknown()
    assert type(cause) is PathBroken


async def test_refusal_becomes_an_error_of_ours(tmp_path: Path) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(
            409, {"kind": "Status", "message": "x: Not configured with USB Redirection"}
        )

    context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
    async with ScriptedServer(script, context) as server, KubeClient(config(server)) as client:
        with pytest.raises(NoUsbSlots):
            await ApiDialer(client).dial(DESK, Listener(), at_will)


def counting_plugin(folder: Path) -> ExecPlugin:
    version = "client.authentication.k8s.io/v1"
    script = (
        f"echo >> {folder}/runs; n=$(wc -l < {folder}/runs); "
        f'echo \'{{"apiVersion": "{version}", "kind": "ExecCredential", '
        '"status": {"token": "t\'$n\'"}}\''
    )
    return ExecPlugin("sh", ("-c", script), {}, version, False, False, "")


@pytest.mark.parametrize("good", ["Bearer t2", "Bearer never"])
async def test_expired_token_is_renewed_once(tmp_path: Path, good: str) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.header("authorization") == good:
            await accepting(nothing)(exchange)
        else:
            await exchange.answer(401)

    context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
    async with ScriptedServer(script, context) as server:
        user = UserConfig(exec=counting_plugin(tmp_path))
        async with KubeClient(config(server, user)) as client:
            if good == "Bearer t2":
                link = await ApiDialer(client).dial(DESK, Listener(), at_will)
                await link.close()
            else:
                with pytest.raises(LoginRequired):
                    await ApiDialer(client).dial(DESK, Listener(), at_will)

    sent = [request.header("authorization") for request in server.requests]
    assert sent == ["Bearer t1", "Bearer t2"]


class Overtaken(VmRedirError):
    """What was to be done may not be done any more."""


@pytest.mark.parametrize("allowed", [0, 1])
async def test_it_is_asked_before_each_try_and_when_credentials_are_at_hand(
    tmp_path: Path, allowed: int
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(401)

    runs_at_questions: list[int] = []

    def ask() -> None:
        runs_at_questions.append(len((tmp_path / "runs").read_text().splitlines()))
        if len(runs_at_questions) > allowed:
            raise Overtaken("a migration has begun")

    context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
    async with ScriptedServer(script, context) as server:
        user = UserConfig(exec=counting_plugin(tmp_path))
        async with KubeClient(config(server, user)) as client:
            with pytest.raises(Overtaken):
                await ApiDialer(client).dial(DESK, Listener(), ask)

    assert len(server.requests) == allowed
    assert runs_at_questions == [1, 2][: allowed + 1]


async def test_refusal_of_what_was_allowed_before_is_not_believed_at_once(tmp_path: Path) -> None:
    starting = False

    async def script(exchange: Exchange) -> None:
        if starting:
            await exchange.answer(403, b"no")
        else:
            await accepting(nothing)(exchange)

    context = AUTHORITY.server_context(tmp_path, "127.0.0.1")
    async with ScriptedServer(script, context) as server, KubeClient(config(server)) as client:
        dialer = ApiDialer(client)
        link = await dialer.dial(DESK, Listener(), at_will)
        await link.close()
        starting = True
        with pytest.raises(ClusterUnreachable, match="the API server may be starting"):
            await dialer.dial(DESK, Listener(), at_will)
        with pytest.raises(Forbidden):
            await dialer.dial(VmiRef("demo", "never-seen"), Listener(), at_will)
