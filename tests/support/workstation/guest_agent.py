"""Runs commands in a VM; the other end of ``guest/agent.py``, which describes the protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from kubectl_vmredir.lab.guests import sockets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

SOCKET: Final = "agent"
"""In the run folder of a domain."""
DEVICES: Final = (
    "-device", "virtio-serial-pci",
    "-chardev", f"socket,id=agent,path={SOCKET},server=on,wait=off",
    "-device", "virtserialport,chardev=agent,name=agent",
)  # fmt: skip
"""What QEMU must have for it."""

LIMIT_S: Final = 120.0
"""For one wait; the VM runs without hardware acceleration."""
_LINE_MAX_BYTES: Final = 1 << 20

_numbers: Iterator[int] = itertools.count(1)
"""Of all agents: a VM that has moved is the same one behind another socket."""


@dataclass(frozen=True)
class Done:
    """A command that has ended.

    Attributes:
        status: Exit status; negative for the signal that killed it.
    """

    status: int
    out: str
    err: str

    def check(self) -> str:
        """Return the output of a command that must have gone well."""
        assert self.status == 0, f"status {self.status}\n{self.out}\n{self.err}"
        return self.out


class Running:
    """A command that runs in the VM.

    Attributes:
        out: What it has written to stdout so far.
        err: The same of stderr.
    """

    def __init__(self, agent: GuestAgent, number: int) -> None:
        self.out = ""
        self.err = ""
        self._agent = agent
        self._number = number
        self._status: int | None = None
        self._changed = asyncio.Event()

    async def says(self, words: str, times: int = 1) -> None:
        """Wait until it has written these words so many times, to stdout or stderr."""
        while (self.out + self.err).count(words) < times:
            assert self._status is None, f"never said {words!r}, but: {self.out}\n{self.err}"
            await self._change(f"{words!r}, {times} times")

    async def end(self) -> Done:
        """Wait until it has ended."""
        while self._status is None:
            await self._change("the end")
        return Done(self._status, self.out, self.err)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and its children."""
        self._agent.send({"id": self._number, "signal": number})

    def heard(self, fact: Mapping[str, Any]) -> None:
        """Take what the agent says about it."""
        self.out += _text(fact.get("out", ""))
        self.err += _text(fact.get("err", ""))
        self._status = fact.get("status", self._status)
        self._changed.set()

    async def _change(self, what: str) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no {what}, but: {self.out}\n{self.err}") from None


class GuestAgent:
    """A connection to the agent of one VM; an async context manager.

    Args:
        folder: Run folder of the domain.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[int, Running] = {}
        self._group = asyncio.TaskGroup()
        self._reading: asyncio.Task[None]
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        with sockets.short_path(self._folder, SOCKET) as path:
            reader, self._writer = await asyncio.open_unix_connection(path, limit=_LINE_MAX_BYTES)
        await self._group.__aenter__()
        self._reading = self._group.create_task(self._read(reader), name="guest-agent")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reading.cancel()
        self._writer.close()
        await self._group.__aexit__(exc_type, exc, traceback)

    def start(
        self, *argv: str, user: str = "user", environment: Mapping[str, str] | None = None
    ) -> Running:
        """Start a command.

        Args:
            argv: The command.
            user: Whose it is: ``user`` or ``root``.
            environment: More variables.
        """
        number = next(_numbers)
        home = "/root" if user == "root" else f"/home/{user}"
        variables = {"HOME": home, "USER": user, "XDG_RUNTIME_DIR": "/run/user/1000"}
        running = self._running[number] = Running(self, number)
        self.send(
            {
                "id": number,
                "argv": argv,
                "user": user,
                "environment": variables | dict(environment or {}),
            }
        )
        return running

    @asynccontextmanager
    async def running(
        self, *argv: str, user: str = "user", environment: Mapping[str, str] | None = None
    ) -> AsyncIterator[Running]:
        """Start a command, and kill it at the end if it still runs."""
        running = self.start(*argv, user=user, environment=environment)
        try:
            yield running
        finally:
            running.signal(signal.SIGKILL)
            await running.end()

    async def run(self, *argv: str, user: str = "user") -> Done:
        """Run a command to its end."""
        return await self.start(*argv, user=user).end()

    def send(self, order: Mapping[str, Any]) -> None:
        """Give an order to the agent."""
        self._writer.write(json.dumps(order).encode() + b"\n")

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            fact = json.loads(line)
            number = fact["id"]
            # What was started before the VM moved here is not ours.
            if running := self._running.get(number):
                running.heard(fact)
                if "status" in fact:
                    del self._running[number]


def _text(characters: str) -> str:
    return characters.encode("latin-1").decode(errors="replace")
