from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubectl_vmredir import __version__
from kubectl_vmredir.agent.access import Access
from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.conversation import HELLO_TIMEOUT_S, MAX_QUESTIONS
from kubectl_vmredir.agent.line import connect
from kubectl_vmredir.agent.messages import MAX_REQUEST_BYTES, PROTOCOL
from kubectl_vmredir.agent.parts import PART_ITEMS
from kubectl_vmredir.agent.server import IDLE_S, AgentServer
from kubectl_vmredir.bootstrap import Options
from kubectl_vmredir.errors import (
    AgentError,
    AgentGone,
    DeviceNotFound,
    KubeconfigError,
    OtherVersion,
    VmRedirError,
)
from kubectl_vmredir.model import DeviceSelector, LocalDevice, VmiRef, VmiUid
from kubectl_vmredir.service.interface import (
    BindRequest,
    ClosingWaits,
    RedirectionEnded,
    Snapshot,
    VmisSeen,
)
from tests.support.agent_world import NOBODY, Worlds, client_of, serving, wishes_in
from tests.support.fake_cluster import running
from tests.support.fake_usb import device
from tests.support.service_world import FEDORA, STICK
from tests.support.virtual_clock import after, at_rest
from tests.support.wire_values import JSON

WISH = BindRequest(STICK, FEDORA)
HELLO = json.dumps({"protocol": PROTOCOL, "version": "x", "pid": 1}).encode() + b"\n"
OTHERS = Access(Options(context="other"), {})


@pytest.fixture
def worlds() -> Worlds:
    return Worlds()


@pytest.fixture
def server(worlds: Worlds, tmp_path: Path) -> AgentServer:
    return AgentServer(worlds, wishes_in(tmp_path), wall_clock=lambda: 7.0)


@pytest.fixture
async def path(server: AgentServer) -> AsyncIterator[Path]:
    async with serving(server) as path:
        yield path


class Raw:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def says(self) -> dict[str, object]:
        """Return the next line of the agent; nothing at the end."""
        line = await self.reader.readline()
        answer = json.loads(line) if line else {}
        assert isinstance(answer, dict)
        return answer

    def send(self, **message: object) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")


@asynccontextmanager
async def raw(path: Path, greeting: bytes = HELLO) -> AsyncIterator[Raw]:
    """Connect, say hello, and hear the agent's."""
    reader, writer = await asyncio.open_unix_connection(path)
    client = Raw(reader, writer)
    writer.write(greeting)
    try:
        assert (await client.says())["protocol"] == PROTOCOL
        yield client
    finally:
        writer.close()
        await writer.wait_closed()


# -- the conversation -------------------------------------------------------------------------


async def test_agent_introduces_itself(path: Path) -> None:
    async with connect(path) as (_, hello):
        assert (hello.protocol, hello.version, hello.pid) == (PROTOCOL, __version__, os.getpid())


async def test_client_of_another_protocol_is_told_so(path: Path) -> None:
    greeting = b'{"protocol": 99, "version": "12.0", "pid": 1, "colour": "red"}\n'
    async with raw(path, greeting) as client:
        answer = await client.says()

        assert answer["id"] is None
        assert answer["trouble"] == {
            "kind": "OtherVersion",
            "message": f"the agent is of version {__version__}, its client of '12.0'",
            "hint": f"Use the same version, or end the agent first: kill {os.getpid()}",
            "exit_code": 1,
        }
        assert await client.says() == {}


async def test_what_the_agent_says_at_last_is_what_the_client_raises(tmp_path: Path) -> None:
    async def dismiss(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        await reader.readline()
        trouble = {"kind": "OtherVersion", "message": "no", "hint": "", "exit_code": 1}
        said = {"type": "Failed", "id": None, "trouble": trouble}
        writer.write(json.dumps(said).encode() + b"\n")
        writer.close()

    server = await asyncio.start_unix_server(dismiss, tmp_path / "s")
    async with server, connect(tmp_path / "s") as (line, _):
        await at_rest()

        with pytest.raises(OtherVersion, match="no"):
            await AgentClient(line).status()


async def test_client_that_says_nothing_is_not_kept(path: Path, server: AgentServer) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    await reader.readline()

    async with asyncio.timeout(HELLO_TIMEOUT_S + 0.1):
        assert await reader.read() == b""
    await at_rest()

    assert (await server.status()).clients == 0
    writer.close()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"\xff\n", "it is no UTF-8"),
        (b"[" * 100_000 + b"\n", "it is nested too deeply"),
        (b'{"type": "Fly", "id": 1}\n', "expected as type one of Call, Next, Cancel"),
        (b'{"type": "Call", "id": true}\n', "Call.id: expected a whole number, got true or false"),
        (b"x" * (MAX_REQUEST_BYTES + 10), f"a line is longer than {MAX_REQUEST_BYTES} bytes"),
    ],
)
async def test_line_that_is_no_question_is_the_last_one(
    path: Path, line: bytes, complaint: str
) -> None:
    async with raw(path) as client:
        client.writer.write(line)
        answer = await client.says()

        assert isinstance(answer["trouble"], dict)
        assert complaint in answer["trouble"]["message"]
        assert await client.says() == {}


async def test_question_that_makes_no_sense_does_not_end_the_conversation(path: Path) -> None:
    async with raw(path) as client:
        for number, (method, arguments) in enumerate(
            [
                ("fly", {}),
                ("__init__", {}),
                ("snapshot", {}),
                ("stop", {"force": 7}),
                ("stop", {"hard": True}),
                ("open", {}),
            ]
        ):
            client.send(type="Call", id=number, method=method, arguments=arguments)

        answers = [await client.says() for _ in range(6)]

    assert [(answer["type"], answer["id"]) for answer in answers] == [
        ("Failed", number) for number in range(6)
    ]
    assert [answer["trouble"]["message"] for answer in answers] == [  # type: ignore[index]
        "the agent knows no 'fly'",
        "the agent knows no '__init__'",
        "no service has been chosen yet",
        "expected true or false, got a whole number",
        "stop() takes no 'hard'",
        "open() without access",
    ]


async def test_questions_about_nothing_open_are_ignored(path: Path) -> None:
    async with raw(path) as client:
        client.send(type="Next", id=5)
        client.send(type="Cancel", id=5)
        client.send(type="Call", id=5, method="status", arguments={})

        assert (await client.says())["type"] == "Done"


async def test_id_of_an_open_question_is_not_used_again(path: Path) -> None:
    async with raw(path) as client:
        for _ in range(2):
            client.send(type="Call", id=1, method="status", arguments={})

        answer = await client.says()

        assert answer["id"] is None
        assert "question 1 is open already" in str(answer)


async def test_client_that_asks_without_end_is_sent_away(path: Path) -> None:
    async with raw(path) as client:
        for number in range(MAX_QUESTIONS + 1):
            client.send(type="Call", id=number, method="status", arguments={})

        answer = await client.says()

        assert f"more than {MAX_QUESTIONS} questions at once" in str(answer)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.binary(max_size=50)
        | st.fixed_dictionaries(
            {
                "type": st.sampled_from(["Call", "Next", "Cancel", "Done"]),
                "id": st.integers(0, 3) | JSON,
                "method": st.sampled_from(["bind", "open", "subscribe", "status", "vmis"]) | JSON,
                "arguments": st.dictionaries(st.sampled_from(["request", "access"]), JSON) | JSON,
            }
        ).map(lambda message: json.dumps(message).encode()),
        max_size=10,
    )
)
def test_whatever_a_client_sends_the_agent_goes_on(lines: list[bytes], tmp_path: Path) -> None:
    async def play() -> None:
        server = AgentServer(Worlds(), wishes_in(tmp_path))
        async with serving(server) as path, client_of(path) as other:
            async with raw(path, HELLO + b"".join(line + b"\n" for line in lines)):
                assert await other.snapshot() == Snapshot(())
            assert (await other.status()).clients <= 2

    asyncio.run(play())


# -- services ---------------------------------------------------------------------------------


async def test_clients_with_the_same_access_share_a_service(path: Path, worlds: Worlds) -> None:
    async with client_of(path) as one, client_of(path) as other:
        bound = await one.bind(WISH)

        (view,) = (await other.snapshot()).redirections

        assert view.status.id == bound
        assert len(worlds.open) == 1


async def test_clients_with_another_context_have_another_service(
    path: Path, worlds: Worlds
) -> None:
    async with client_of(path) as one, client_of(path, OTHERS) as other:
        await one.bind(WISH)

        assert await other.snapshot() == Snapshot(())
        assert len(worlds.open) == 2


async def test_namespace_is_each_clients_own(path: Path, worlds: Worlds) -> None:
    async with client_of(path, None) as one, client_of(path, None) as other:
        assert await one.open(NOBODY) == "demo"
        assert await other.open(Access(Options(namespace="mine"), {})) == "mine"
        assert len(worlds.open) == 1


async def test_service_is_chosen_once(path: Path) -> None:
    async with client_of(path) as client:
        with pytest.raises(AgentError, match="has been chosen already"):
            await client.open(OTHERS)


async def test_service_sees_the_variables_of_its_latest_client(path: Path, worlds: Worlds) -> None:
    async with client_of(path, replace(NOBODY, environ={"TOKEN": "old", "A": "1"})):
        assert worlds.seen == [{"TOKEN": "old", "A": "1"}]

        async with client_of(path, replace(NOBODY, environ={"TOKEN": "new"})):
            assert worlds.seen == [{"TOKEN": "new"}]


async def test_service_that_cannot_be_opened_is_an_error_of_each_who_wants_it(
    path: Path, worlds: Worlds
) -> None:
    worlds.refusal = KubeconfigError("no such context", hint="Look.")
    async with client_of(path, None) as one, client_of(path, None) as other:
        for client in (one, other):
            with pytest.raises(KubeconfigError, match="no such context") as caught:
                await client.open(NOBODY)
            assert caught.value.hint == "Look."

        worlds.refusal = None
        assert await one.open(NOBODY) == "demo"


async def test_service_is_closed_when_its_last_client_goes(path: Path, worlds: Worlds) -> None:
    async with client_of(path):
        async with client_of(path):
            pass
        await at_rest()
        assert len(worlds.open) == 1
    await at_rest()

    assert worlds.open == []


async def test_redirection_outlives_the_client_that_bound(path: Path, worlds: Worlds) -> None:
    async with client_of(path) as client:
        bound = await client.bind(WISH)
    await after(3600 / 100)

    async with client_of(path) as client:
        (view,) = (await client.snapshot()).redirections
        assert view.status.id == bound
        assert view.status.state == "connected"
        assert len(worlds.open) == 1


async def test_service_is_closed_when_its_last_redirection_ends(path: Path, worlds: Worlds) -> None:
    async with client_of(path) as client:
        bound = await client.bind(WISH)
        await client.unbind(bound)
        await at_rest()
        assert len(worlds.open) == 1
    await at_rest()

    assert worlds.open == []


async def test_call_is_cancelled_when_its_client_goes(path: Path, worlds: Worlds) -> None:
    async with client_of(path, OTHERS) as other:
        async with raw(path) as client:
            arguments = {"access": {"options": {"context": "other"}, "environ": {}}}
            client.send(type="Call", id=1, method="open", arguments=arguments)
            await client.says()
            worlds.open[0].cluster.login_s = 60
            request = {"device": {"serial": "STICK1"}, "vmi": {"namespace": "demo", "name": "x"}}
            client.send(type="Call", id=2, method="bind", arguments={"request": request})
            await at_rest()
            assert (await other.status()).clients == 2
        await after(120)

        assert await other.snapshot() == Snapshot(())
        assert (await other.status()).clients == 1


async def test_cancelled_call_is_cancelled_in_the_agent(path: Path, worlds: Worlds) -> None:
    async with client_of(path) as client:
        asked = asyncio.Event()

        async def ask_forever(device: object) -> None:
            asked.set()
            await asyncio.Event().wait()

        worlds.open[0].devices.use = ask_forever  # type: ignore[assignment, method-assign]

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await client.device_use(device())

        assert asked.is_set()
        assert await client.snapshot() == Snapshot(())


async def test_error_in_the_service_is_the_error_of_the_client(path: Path) -> None:
    async with client_of(path) as client:
        with pytest.raises(DeviceNotFound, match="no USB device") as caught:
            await client.bind(replace(WISH, device=DeviceSelector.parse("ffff:ffff")))

    assert caught.value.hint == "List devices with: kubectl vmredir devices"


async def test_bug_in_the_service_is_told_and_logged(
    path: Path, worlds: Worlds, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(path) as client:

        async def devices() -> list[LocalDevice]:
            raise ZeroDivisionError

        worlds.open[0].devices.devices = devices  # type: ignore[method-assign]

        with pytest.raises(VmRedirError, match="internal error: ZeroDivisionError"):
            await client.devices()

        assert await client.snapshot() == Snapshot(())
    assert "a question cannot be answered" in caplog.text


# -- streams ----------------------------------------------------------------------------------


async def test_item_that_was_asked_for_is_not_lost_by_who_gives_up_waiting(path: Path) -> None:
    async with client_of(path) as client, client.subscribe() as one, client.subscribe() as other:
        await anext(one)
        await anext(other)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await anext(one)

        await client.unbind(await client.bind(WISH))
        heard = [await anext(one)]
        while not isinstance(heard[-1], RedirectionEnded):
            heard.append(await anext(one))

        assert heard == [await anext(other) for _ in heard]


async def test_client_that_never_listens_is_waited_for_by_nobody(path: Path) -> None:
    async with client_of(path) as client, raw(path) as silent:
        arguments: dict[str, Any] = {"access": {"options": {}, "environ": {}}}
        silent.send(type="Call", id=1, method="open", arguments=arguments)
        silent.send(type="Call", id=2, method="subscribe", arguments={"numbers": True})
        for _ in range(200):
            silent.send(type="Next", id=2)
        for _ in range(200):
            await client.unbind(await client.bind(WISH))

        assert (await client.status()).redirections == 0
        # What it had asked for, and nothing of the thousands of changes since.
        answers = [await silent.says() for _ in range(3)]
    assert [answer["id"] for answer in answers] == [1, 2, 2]


async def test_client_whose_window_is_full_is_told_a_snapshot_in_place_of_what_it_missed(
    path: Path,
) -> None:
    streams = range(10, 50)
    async with client_of(path) as busy, raw(path) as deaf:
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        arguments: dict[str, Any] = {"access": {"options": {}, "environ": {}}}
        deaf.send(type="Call", id=1, method="open", arguments=arguments)
        await at_rest()
        for stream in streams:
            deaf.send(type="Call", id=stream, method="subscribe", arguments={})
        wanted = 0
        for _ in range(60):
            for stream in streams:
                deaf.send(type="Next", id=stream)
            wanted += len(streams)
            # Nobody waits for who does not listen.
            await busy.unbind(await busy.bind(WISH))
        bound = await busy.bind(WISH)
        await at_rest()

        deaf.writer.transport.resume_reading()  # type: ignore[attr-defined]
        items = await heard_by(deaf, streams)

        assert sum(map(len, items.values())) < wanted
        for told in items.values():
            assert told[0]["type"] == told[-1]["type"] == "Snapshot"
            assert [view["status"]["id"] for view in told[-1]["redirections"]] == [bound]


async def heard_by(client: Raw, streams: range) -> dict[int, list[dict[str, Any]]]:
    """Return all items of streams, up to the second snapshot of each."""
    items: dict[int, list[dict[str, Any]]] = {stream: [] for stream in streams}
    waiting = set(streams)
    for stream in streams:
        client.send(type="Next", id=stream)
    while waiting:
        said = await client.says()
        item: Any = said.get("value")
        if not isinstance(item, dict):
            continue
        stream = cast("int", said["id"])
        items[stream].append(item)
        if [told["type"] for told in items[stream]].count("Snapshot") == 2:
            waiting.discard(stream)
        else:
            client.send(type="Next", id=stream)
    return items


async def test_stream_ends_with_the_agent(server: AgentServer, worlds: Worlds) -> None:
    async with serving(server) as path, client_of(path) as client, client.subscribe() as changes:
        await anext(changes)
        assert await client.stop() == ()

        rest = [change async for change in changes]
        assert rest in ([], [ClosingWaits(())])
        with pytest.raises(StopAsyncIteration):
            await anext(changes)
        with pytest.raises(AgentGone, match="the agent has gone away"):
            await client.snapshot()


async def test_long_list_comes_in_parts_and_is_whole(path: Path, worlds: Worlds) -> None:
    worlds.vmis = tuple(
        replace(running(), ref=VmiRef("demo", f"vm{number}"), uid=VmiUid(str(number)))
        for number in range(PART_ITEMS * 2 + 1)
    )
    async with client_of(path) as client, raw(path) as other:
        arguments: dict[str, Any] = {"access": {"options": {}, "environ": {}}}
        other.send(type="Call", id=1, method="open", arguments=arguments)
        other.send(type="Call", id=2, method="vmis", arguments={"namespace": None})
        answers = [await other.says() for _ in range(4)]

        listed = await client.vmis(None)

        assert [found.vmi for found in listed] == list(worlds.vmis)
        async with client.watch_vmis(None) as news:
            assert await anext(news) == VmisSeen(tuple(listed))
    assert [(answer["type"], answer["id"]) for answer in answers] == [
        ("Done", 1),
        ("Part", 2),
        ("Part", 2),
        ("Done", 2),
    ]


# -- the end ----------------------------------------------------------------------------------


async def test_agent_ends_when_nobody_needs_it(server: AgentServer) -> None:
    async with serving(server) as path:
        async with client_of(path):
            await after(IDLE_S * 2)
        await after(IDLE_S - 0.1)
        async with client_of(path):
            pass
        await after(IDLE_S + 0.1)

        with pytest.raises(AgentGone, match="no agent is running"):
            async with connect(path):
                pass


async def test_agent_stays_as_long_as_it_keeps_a_redirection_up(path: Path) -> None:
    async with client_of(path) as client:
        await client.bind(WISH)
    await after(IDLE_S * 10)

    async with client_of(path, None) as client:
        status = await client.status()

    assert (status.services, status.redirections, status.clients) == (1, 1, 1)
    assert (status.version, status.started, status.closing) == (__version__, 7.0, None)


async def test_stop_ends_all_redirections_and_the_agent(path: Path, worlds: Worlds) -> None:
    async with client_of(path) as client, client_of(path, OTHERS) as other:
        await client.bind(WISH)
        await other.bind(WISH)
        await at_rest()
        hosts = [host for world in worlds.open for host in world.devices.hosts]

        assert await client.stop() == ()
        await after(1)

        assert [host.released for host in hosts] == [True, True]
        assert worlds.open == []
        with pytest.raises(AgentGone):
            await other.snapshot()


async def test_stop_waits_for_the_gate_and_ends_as_soon_as_it_opens(
    path: Path, worlds: Worlds
) -> None:
    async with client_of(path) as client:
        await client.bind(WISH)
        await at_rest()
        (world,) = worlds.open
        migration = world.migration()
        migration.go_to("copying")

        (risk,) = await client.stop()

        assert "migration" in risk.waits_for
        assert world.link.open
        assert (await client.status()).closing == (risk,)
        migration.fail()
        await after(5)
        assert not world.link.open
        with pytest.raises(AgentGone):
            await client.status()


async def test_forced_stop_waits_for_nothing(path: Path, worlds: Worlds) -> None:
    async with client_of(path) as client:
        await client.bind(WISH)
        await at_rest()
        (world,) = worlds.open
        world.migration().go_to("copying")

        (risk,) = await client.stop(force=True)
        await after(1)

        assert risk.vmi == FEDORA
        assert worlds.open == []


# -- other users ------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_another_user_gets_no_word_out_of_the_agent(worlds: Worlds, tmp_path: Path) -> None:
    code = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        "try:\n"
        "    print(s.recv(100))\n"
        "except ConnectionResetError:\n"
        "    print('reset')\n"
    )

    async with serving(AgentServer(worlds, wishes_in(tmp_path), idle_s=None)) as path:
        # As if the folder and the socket were open to all.
        os.chmod(path.parent, 0o755)
        os.chmod(path, 0o666)

        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", code, str(path), stdout=subprocess.PIPE
        )
        out, _ = await process.communicate()

        assert out in (b"b''\n", b"reset\n")


async def test_socket_of_somebody_else_is_not_talked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s"))
    listening.listen()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    with pytest.raises(AgentError, match="somebody else's"):
        async with connect(tmp_path / "s"):
            pass

    accepted, _ = listening.accept()
    assert accepted.recv(100) == b""
    accepted.close()
    listening.close()
