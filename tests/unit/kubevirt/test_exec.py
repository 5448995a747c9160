"""Commands in pods: channels, ends, and what is believed of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from kubectl_vmredir.errors import ExecFailed, Forbidden, LoginRequired, PathBroken, VmRedirError
from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, UserConfig
from kubectl_vmredir.kubevirt import exec as exec_module
from kubectl_vmredir.kubevirt.exec import PodExec, PodRef
from kubectl_vmredir.kubevirt.exec_stream import (
    MAX_STDERR_BYTES,
    V4,
    V5,
    ExecListener,
    ExecStatus,
    ExecStream,
)
from tests.support.exec_server import STATUS, STDERR, STDOUT, ExecServer
from tests.support.link_listener import at_will
from tests.support.scripted_server import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PONG,
    TEXT,
    Exchange,
    Script,
    ScriptedServer,
)
from tests.support.websockets import AUTHORITY

POD = PodRef("demo", "virt-launcher-desk-x2x2x")
FORBIDDEN = {
    "kind": "Status",
    "message": 'pods "virt-launcher-desk-x2x2x" is forbidden: User "bob" cannot create resource '
    '"pods/exec" in API group "" in the namespace "demo"',
}


class Ears:
    """Remembers what a command says, and can be waited for."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.complaint = ""
        self.round_trips_s: list[float] = []
        self.end: tuple[VmRedirError, ExecStatus | None] | None = None
        self._changed = asyncio.Event()

    def exec_output(self, data: memoryview) -> None:
        assert len(data) > 0
        self.heard += data
        self._changed.set()

    def exec_complained(self, complaint: str) -> None:
        self.complaint = complaint
        self._changed.set()

    def exec_writable(self, writable: bool) -> None:
        self._changed.set()

    def exec_pong(self, round_trip_s: float) -> None:
        self.round_trips_s.append(round_trip_s)
        self._changed.set()

    def exec_ended(self, cause: VmRedirError, status: ExecStatus | None) -> None:
        assert self.end is None, "told twice"
        self.end = (cause, status)
        self._changed.set()

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class World:
    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self.server: ScriptedServer | None = None

    async def pod_exec(self, script: Script) -> PodExec:
        context = AUTHORITY.server_context(self._folder, "127.0.0.1")
        self.server = await self._stack.enter_async_context(ScriptedServer(script, context))
        config = ClusterConfig(self.server.url, user=UserConfig(token="t"), ca=AUTHORITY.pem)
        return PodExec(await self._stack.enter_async_context(KubeClient(config)))

    async def open(self, script: Script, ears: ExecListener, *command: str) -> ExecStream:
        pod_exec = await self.pod_exec(script)
        stream = await pod_exec.open(POD, command or ("cat",), ears, at_will)
        self._stack.push_async_callback(stream.close)
        return stream


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield World(stack, tmp_path)


def saying(*frames: tuple[int, bytes, bool]) -> Script:
    """Accept, say these frames (opcode, payload, whether it is the last of its message), wait."""

    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance({"Sec-WebSocket-Protocol": V5}))
        for opcode, payload, last in frames:
            await exchange.frame(opcode, payload, fin=last)
        if any(opcode == CLOSE for opcode, _, _ in frames):
            exchange.say_goodbye()
        else:
            await exchange.until_closed()

    return script


# -- streams --------------------------------------------------------------------------------


async def test_request_is_what_kubectl_asks_for(world: World) -> None:
    await world.open(ExecServer(), Ears(), "sh", "-c", "exit $1; a&b=c", "x", "0")

    assert world.server is not None
    (request,) = world.server.requests
    path = urlsplit(request.target).path
    assert path == "/api/v1/namespaces/demo/pods/virt-launcher-desk-x2x2x/exec"
    assert parse_qsl(urlsplit(request.target).query) == [
        ("container", "compute"),
        ("stdin", "true"),
        ("stdout", "true"),
        ("stderr", "true"),
        ("tty", "false"),
        *(("command", argument) for argument in ("sh", "-c", "exit $1; a&b=c", "x", "0")),
    ]
    assert request.header("sec-websocket-protocol") == f"{V5}, {V4}"
    assert request.header("authorization") == "Bearer t"


@pytest.mark.parametrize("protocol", [V5, V4])
async def test_every_byte_passes_both_ways(world: World, protocol: str) -> None:
    ears = Ears()
    payload = bytes(range(256)) * 1000
    stream = await world.open(ExecServer(protocols=[protocol]), ears)

    stream.send(payload)
    await ears.until(lambda: len(ears.heard) == len(payload))

    assert bytes(ears.heard) == payload
    assert stream.half_closes is (protocol == V5)


async def test_standard_input_can_be_closed_by_itself(world: World) -> None:
    ears = Ears()
    stream = await world.open(ExecServer(), ears, "sh", "-c", "cat; echo the end")

    stream.send(b"x")
    stream.close_stdin()
    await ears.until(lambda: ears.end)

    assert bytes(ears.heard) == b"xthe end\n"
    assert ears.end is not None
    assert ears.end[1] == ExecStatus(succeeded=True, exit_code=None, message="")


async def test_v4_cannot_close_standard_input(world: World) -> None:
    ears = Ears()
    stream = await world.open(ExecServer(protocols=[V4]), ears)

    stream.close_stdin()
    stream.send(b"still open")

    await ears.until(lambda: bytes(ears.heard) == b"still open")


async def test_exit_code_is_told(world: World) -> None:
    ears = Ears()
    await world.open(ExecServer(), ears, "sh", "-c", "exit 7")

    await ears.until(lambda: ears.end)

    assert ears.end is not None
    assert ears.end[1] is not None
    assert ears.end[1].exit_code == 7


async def test_standard_error_is_told_apart_from_output(world: World) -> None:
    ears = Ears()
    await world.open(ExecServer(), ears, "sh", "-c", "echo one >&2; echo two >&2; echo three")

    await ears.until(lambda: ears.end)

    assert ears.complaint == "one\ntwo\n"
    assert bytes(ears.heard) == b"three\n"


async def test_fragments_belong_to_the_channel_of_their_message(world: World) -> None:
    ears = Ears()
    frames = [
        (BINARY, b"", False),
        (CONTINUATION, b"\x01ab", False),
        (CONTINUATION, b"", False),
        (CONTINUATION, b"cd", True),
        (BINARY, b"\x02not this", False),
        (CONTINUATION, b"nor this", True),
        (BINARY, b"\x09later version", True),
        (TEXT, b"\x01text", False),
        (CONTINUATION, b"more text", True),
        (BINARY, b"\x01ef", True),
    ]

    await world.open(saying(*frames), ears)
    await ears.until(lambda: ears.heard.endswith(b"ef"))

    assert bytes(ears.heard) == b"abcdef"


async def test_reading_can_be_paused(world: World) -> None:
    ears = Ears()
    stream = await world.open(ExecServer(), ears)
    stream.pause_reading()
    stream.send(b"x" * 100)
    stream.ping()
    stream.resume_reading()

    await ears.until(lambda: len(ears.heard) == 100)


async def test_pings_are_answered_by_the_api_server(world: World) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance())
        _, payload = await exchange.read_frame()
        await exchange.frame(PONG, payload)
        await exchange.until_closed()

    ears = Ears()
    stream = await world.open(script, ears)
    stream.ping()

    await ears.until(lambda: ears.round_trips_s)


async def test_connection_that_breaks_ends_it_without_a_status(world: World) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(exchange.acceptance())
        exchange.cut()

    ears = Ears()
    await world.open(script, ears)
    await ears.until(lambda: ears.end)

    assert ears.end is not None
    assert isinstance(ears.end[0], PathBroken)
    assert ears.end[1] is None


# -- status ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"metadata":{},"status":"Success"}', ExecStatus(True, None, "")),
        (
            b'{"status":"Failure","message":"no","reason":"InternalError"}',
            ExecStatus(False, None, "no"),
        ),
        (
            b'{"status":"Failure","message":"m","details":{"causes":'
            b'[{"reason":"Other"},{"reason":"ExitCode","message":"137"}]}}',
            ExecStatus(False, 137, "m"),
        ),
        (
            b'{"status":"Failure","message":"m","details":{"causes":'
            b'[{"reason":"ExitCode","message":"-1"}]}}',
            ExecStatus(False, None, "m"),
        ),
        (b"no json\x1b", ExecStatus(False, None, "no json\\x1b")),
        (b"[]", ExecStatus(False, None, "[]")),
        (b"[" * 60_000, ExecStatus(False, None, "[" * 1000 + "...")),
    ],
)
def test_status_is_read_or_is_a_failure(body: bytes, status: ExecStatus) -> None:
    assert ExecStatus.parse(body) == status


# -- scripts --------------------------------------------------------------------------------


async def test_script_gets_its_arguments_unchanged_and_its_output_comes_back(world: World) -> None:
    pod_exec = await world.pod_exec(ExecServer())

    said = await pod_exec.run(
        POD,
        'printf "%s\\n" "$1"; head -c 3; echo; echo done',
        "a b;$(c)'",
        last_word="done",
        stdin=b"xyz",
    )

    assert said == "a b;$(c)'\nxyz\n"


@pytest.mark.parametrize("script", ["echo done; exit 3", "echo; echo done"])
async def test_last_word_counts_and_the_exit_status_does_not(world: World, script: str) -> None:
    pod_exec = await world.pod_exec(ExecServer())

    await pod_exec.run(POD, script, last_word="done")


async def test_success_without_the_last_word_is_none(world: World) -> None:
    status = json.dumps({"status": "Success"}).encode()
    frames = [
        (BINARY, b"\x01don", True),
        (BINARY, b"\x03" + status, True),
        (CLOSE, b"\x03\xe8", True),
    ]
    pod_exec = await world.pod_exec(saying(*frames))

    with pytest.raises(ExecFailed, match="a command failed"):
        await pod_exec.run(POD, "echo done", last_word="done")


@pytest.mark.parametrize("script", ["echo undone", "echo done; echo more", "echo not-done"])
async def test_last_word_is_a_line_of_its_own_and_the_last(world: World, script: str) -> None:
    pod_exec = await world.pod_exec(ExecServer())

    with pytest.raises(ExecFailed):
        await pod_exec.run(POD, script, last_word="done")


async def test_failure_says_what_the_command_complained_of(world: World) -> None:
    pod_exec = await world.pod_exec(ExecServer())

    with pytest.raises(ExecFailed, match=r"no room\\x1b \(command terminated .* status 9\)"):
        await pod_exec.run(POD, 'printf "no room\\033\\n" >&2; exit 9', last_word="done")


async def test_complaints_are_cut(world: World) -> None:
    frames = [
        (BINARY, bytes([STDERR]) + b"x" * MAX_STDERR_BYTES, True),
        (BINARY, bytes([STDERR]) + b"y", True),
        (BINARY, bytes([STDOUT]) + b"done\n", True),
        (BINARY, bytes([STATUS]) + b"{}", True),
        (CLOSE, b"\x03\xe8", True),
    ]
    pod_exec = await world.pod_exec(saying(*frames))

    assert await pod_exec.run(POD, "", last_word="done") == ""


async def test_command_that_does_not_end_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec_module, "RUN_TIMEOUT_S", 0.05)
    pod_exec = await world.pod_exec(ExecServer())

    with pytest.raises(ExecFailed, match="did not end"):
        await pod_exec.run(POD, "cat; echo done", last_word="done")


# -- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (403, FORBIDDEN, Forbidden, "may not create pods/exec"),
        (401, {}, LoginRequired, "credentials"),
        (404, {"kind": "Status", "message": 'pods "x" not found'}, ExecFailed, "not found"),
        (400, {"kind": "Status", "message": "container not found"}, ExecFailed, "container"),
    ],
)
async def test_refusals_are_errors_of_ours(
    world: World, status: int, body: dict[str, Any], error: type[VmRedirError], text: str
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body)

    pod_exec = await world.pod_exec(script)

    with pytest.raises(error, match=text) as caught:
        await pod_exec.open(POD, ["cat"], Ears(), at_will)

    if error is Forbidden:
        assert "pods/exec" in str(caught.value.hint)
