"""Serves ``pods/exec`` with real processes of this machine, as kube-apiserver and a node do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from kubectl_vmredir.kubevirt.exec_stream import V4, V5
from tests.support.scripted_server import BINARY, CLOSE, Exchange

STDOUT: Final = 1
STDERR: Final = 2
STATUS: Final = 3
_READ_BYTES: Final = 32768  # io.Copy
_LIMIT_S: Final = 10.0


@dataclass
class ExecServer:
    """A script of :class:`~tests.support.scripted_server.ScriptedServer`.

    Attributes:
        protocols: Those it speaks.
        tear_after: So many bytes of standard input come to the command, then all is torn.
        folders: Of the pod, and where they are on this machine: its mounts.
        path: Where the pod looks for programs; None for where this machine does.
        commands: What was run.
    """

    protocols: Sequence[str] = (V5, V4)
    tear_after: int | None = None
    folders: Mapping[str, str] = field(default_factory=dict)
    path: str | None = None
    commands: list[list[str]] = field(default_factory=list)
    _exits: asyncio.Queue[int] = field(default_factory=asyncio.Queue)

    async def exited(self) -> int:
        """Wait until one more command has ended, whoever still listens; return its exit code."""
        async with asyncio.timeout(_LIMIT_S):
            return await self._exits.get()

    async def __call__(self, exchange: Exchange) -> None:
        query = parse_qsl(urlsplit(exchange.target).query)
        command = [value for name, value in query if name == "command"]
        self.commands.append(command)
        offered = [name.strip() for name in exchange.header("sec-websocket-protocol").split(",")]
        protocol = next(name for name in offered if name in self.protocols)
        await exchange.write(exchange.acceptance({"Sec-WebSocket-Protocol": protocol}))
        await exchange.frame(BINARY, bytes([STDOUT]))
        process = await asyncio.create_subprocess_exec(
            *(self._mounted(argument) for argument in command),
            env=None if self.path is None else {"PATH": self.path},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            await self._carry(exchange, process, half_closes=protocol == V5)
        finally:
            if process.returncode is None:
                process.kill()
            self._exits.put_nowait(await process.wait())

    def _mounted(self, argument: str) -> str:
        for folder, place in self.folders.items():
            if argument.startswith(f"{folder}/"):
                return place + argument.removeprefix(folder)
        return argument

    async def _carry(
        self, exchange: Exchange, process: asyncio.subprocess.Process, *, half_closes: bool
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.timeout(_LIMIT_S), asyncio.TaskGroup() as group:
            stdin = group.create_task(self._feed(exchange, process, half_closes=half_closes))
            copies = [
                group.create_task(_copy(process.stdout, exchange, STDOUT)),
                group.create_task(_copy(process.stderr, exchange, STDERR)),
            ]
            for copy in copies:
                await copy
            code = await process.wait()
            if not stdin.done():
                status = _status(code)
                await exchange.frame(BINARY, bytes([STATUS]) + json.dumps(status).encode())
                await exchange.frame(CLOSE, b"\x03\xe8")
            stdin.cancel()

    async def _feed(
        self, exchange: Exchange, process: asyncio.subprocess.Process, *, half_closes: bool
    ) -> None:
        """Hand on standard input; when the client is gone the command sees its end, and no more."""
        assert process.stdin is not None
        fed = 0
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                opcode, data = await exchange.read_frame()
                if opcode == CLOSE:
                    await exchange.frame(CLOSE, b"\x03\xe8")
                    break
                if half_closes and data == b"\xff\x00":
                    process.stdin.close()
                elif opcode == BINARY and data[:1] == b"\x00":
                    payload = data[1:]
                    if self.tear_after is not None:
                        payload = payload[: self.tear_after - fed]
                    fed += len(payload)
                    with contextlib.suppress(ConnectionError):  # it may have ended
                        process.stdin.write(payload)
                        await process.stdin.drain()
                    if fed == self.tear_after:
                        exchange.reset()
                        break
        process.stdin.close()


async def _copy(reader: asyncio.StreamReader, exchange: Exchange, channel: int) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            await exchange.frame(BINARY, bytes([channel]) + data)


def _status(code: int) -> dict[str, object]:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
