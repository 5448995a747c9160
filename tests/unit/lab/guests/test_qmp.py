from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.guests.qmp import Monitor
from kubectl_vmredir.model import JsonValue

GREETING: dict[str, JsonValue] = {"QMP": {"version": {}, "capabilities": []}}


class ScriptedQemu:
    """The other end of a monitor: says what the test tells it to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.say(GREETING)

    def say(self, message: Mapping[str, JsonValue]) -> None:
        self._writer.write(json.dumps(message).encode() + b"\r\n")

    async def hear(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self._reader.readline())
        return message

    def end(self) -> None:
        self._writer.close()


class Pair:
    """A monitor whose owner runs it, and the QEMU that it talks to."""

    def __init__(
        self,
        monitor: Monitor,
        qemu: ScriptedQemu,
        events: list[tuple[str, Mapping[str, JsonValue]]],
        group: asyncio.TaskGroup,
    ) -> None:
        self.monitor = monitor
        self.qemu = qemu
        self.events = events
        self.group = group


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    connected: asyncio.Queue[ScriptedQemu] = asyncio.Queue()
    server = await asyncio.start_unix_server(
        lambda reader, writer: connected.put_nowait(ScriptedQemu(reader, writer)), tmp_path / "qmp"
    )
    events: list[tuple[str, Mapping[str, JsonValue]]] = []
    monitor = await Monitor.connect(tmp_path, "qmp", lambda name, data: events.append((name, data)))
    qemu = await connected.get()
    async with server, asyncio.TaskGroup() as group:
        group.create_task(monitor.run())
        yield Pair(monitor, qemu, events, group)
        qemu.end()


async def test_a_command_gets_its_own_answer(pair: Pair) -> None:
    first = pair.group.create_task(pair.monitor.execute("query-status"))
    second = pair.group.create_task(pair.monitor.execute("migrate", uri="x", max_bandwidth=1))
    asked = [await pair.qemu.hear(), await pair.qemu.hear()]

    pair.qemu.say({"return": "second", "id": asked[1]["id"]})
    pair.qemu.say({"return": "first", "id": asked[0]["id"]})

    assert (await first, await second) == ("first", "second")
    assert asked[1]["execute"] == "migrate"
    assert asked[1]["arguments"] == {"uri": "x", "max-bandwidth": 1}


async def test_a_refusal_is_told_in_qemus_words(pair: Pair) -> None:
    command = pair.group.create_task(_error(pair.monitor, "cont"))
    asked = await pair.qemu.hear()

    pair.qemu.say({"error": {"class": "GenericError", "desc": "no way"}, "id": asked["id"]})

    assert "no way" in await command


async def test_events_are_told_apart_from_answers(pair: Pair) -> None:
    command = pair.group.create_task(pair.monitor.execute("cont"))
    asked = await pair.qemu.hear()

    pair.qemu.say({"event": "MIGRATION", "data": {"status": "active"}})
    pair.qemu.say({"event": "STOP"})
    pair.qemu.say({"return": {}, "id": asked["id"]})

    assert await command == {}
    assert pair.events == [("MIGRATION", {"status": "active"}), ("STOP", {})]


async def test_a_command_fails_when_qemu_ends(pair: Pair) -> None:
    command = pair.group.create_task(_error(pair.monitor, "query-migrate"))
    await pair.qemu.hear()

    pair.qemu.end()

    assert "ended" in await command
    assert "ended before cont" in await _error(pair.monitor, "cont")


async def test_a_command_without_an_answer_fails_in_time(pair: Pair) -> None:
    assert "did not answer query-status" in await _error(pair.monitor, "query-status")


async def _error(monitor: Monitor, command: str) -> str:
    with pytest.raises(LabError) as caught:
        await monitor.execute(command)
    return str(caught.value)
