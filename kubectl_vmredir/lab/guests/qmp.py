"""The monitor of a QEMU: commands and events as JSON lines.

Source: "QEMU Machine Protocol Specification" of QEMU's documentation.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import closing
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.guests import sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from kubectl_vmredir.model import JsonValue

logger = logging.getLogger(__name__)

_LINE_MAX_BYTES: Final = 1 << 20
_COMMAND_TIMEOUT_S: Final = 30.0
"""For the answer to a command; QEMU does long work behind its answers, not before them."""


class Monitor:
    """A connection to one QEMU. Its owner runs :meth:`run` in a task.

    Args:
        reader: From QEMU.
        writer: To QEMU; closed when :meth:`run` ends.
        on_event: Hears each event: its name, and its data.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_event: Callable[[str, Mapping[str, JsonValue]], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_event = on_event
        self._answers: dict[int, asyncio.Future[JsonValue]] = {}
        self._last_id = 0
        self._open = True

    @classmethod
    async def connect(
        cls, folder: Path, name: str, on_event: Callable[[str, Mapping[str, JsonValue]], None]
    ) -> Monitor:
        """Connect to the socket ``folder/name``; does not wait for QEMU."""
        with sockets.short_path(folder, name) as path:
            reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_MAX_BYTES)
        return cls(reader, writer, on_event)

    async def run(self) -> None:
        """Read what QEMU says, until it says no more; then all commands fail."""
        with closing(self._writer):
            try:
                while line := await self._reader.readline():
                    self._heard(json.loads(line))
            except OSError as exc:
                logger.debug("monitor: %s", exc)
            finally:
                self._open = False
                for answer in self._answers.values():
                    if not answer.done():
                        answer.set_exception(LabError("QEMU ended before it answered"))

    async def execute(self, command: str, **arguments: JsonValue) -> JsonValue:
        """Run one command and return its answer.

        Args:
            command: As QEMU spells it.
            arguments: Underscores in their names become dashes.

        Raises:
            LabError: If QEMU refuses, has ended, or does not answer.
        """
        if not self._open:
            raise LabError(f"QEMU ended before {command}")
        self._last_id += 1
        number = self._last_id
        message = {
            "execute": command,
            "arguments": {name.replace("_", "-"): value for name, value in arguments.items()},
            "id": number,
        }
        answer: asyncio.Future[JsonValue] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._writer.write(json.dumps(message).encode() + b"\n")
            async with asyncio.timeout(_COMMAND_TIMEOUT_S):
                return await answer
        except TimeoutError as exc:
            raise LabError(f"QEMU did not answer {command}") from exc
        finally:
            del self._answers[number]

    def _heard(self, message: Mapping[str, JsonValue]) -> None:
        match message:
            case {"event": str(name)}:
                data = message.get("data")
                self._on_event(name, data if isinstance(data, dict) else {})
            case {"return": result, "id": int(number)}:
                if (answer := self._answers.get(number)) and not answer.done():
                    answer.set_result(result)
            case {"error": {"desc": str(text)}, "id": int(number)}:
                if (answer := self._answers.get(number)) and not answer.done():
                    answer.set_exception(LabError(f"QEMU says: {text}"))
            case _:
                logger.debug("monitor: %s", message)  # the greeting
