"""Puts the processes of a data path together: usb-host, what is measured, far end."""

from __future__ import annotations

import asyncio
import enum
import json
import os
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.samples import Run, Sample
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.traffic import Load

_ROOT: Final = Path(__file__).parents[1]
_ANSWER_TIMEOUT_S: Final = 20.0
_END_TIMEOUT_S: Final = 10.0
_LONGEST_LINE_BYTES: Final = 1 << 24


class Middle(enum.StrEnum):
    """What is between usb-host and far end; a module of this package where it is a process."""

    CLIENT = "client"
    PEER = "plain_copy"
    NOTHING = "nothing"
    """The usb-host is the client of the far end."""


class Certificates:
    """Certificate files for the far ends.

    Args:
        folder: Where they are written.
    """

    def __init__(self, folder: Path) -> None:
        authority = Authority("benchmark")
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(authority.pem)
        self.server = folder / "server.pem"
        self.server.write_bytes(b"".join(authority.server("127.0.0.1")))


class DataPath:
    """A path that is up; see :func:`data_path`."""

    def __init__(self, usb_host: Process, middle: Process | None, far_end: Process) -> None:
        self._usb_host = usb_host
        self._middle = middle
        self._far_end = far_end

    async def run(self, load: Load, seconds: float) -> Sample:
        """Run a load for so long.

        Raises:
            RuntimeError: If a process of the path has ended, or is stuck.
        """
        self._share_cpus(load)
        before = await self._cpu_s()
        answer = await self._far_end.ask(json.dumps({"load": load.name, "seconds": seconds}))
        return Sample(load, Run(**json.loads(answer)), await self._cpu_s() - before)

    def _share_cpus(self, load: Load) -> None:
        """Give each process the CPUs that it may run on.

        All of them, if there is work for all at once. With one transfer in flight just one
        process runs at a time, and waking one up takes much longer on another CPU than on the
        same: so that each path pays for that as often, what is measured has one CPU, the ends
        another.
        """
        everywhere = os.sched_getaffinity(0)
        first, last = min(everywhere), max(everywhere)
        apart = load.in_flight == 1
        for process in (self._usb_host, self._far_end):
            process.run_on({first} if apart else everywhere)
        if self._middle is not None:
            self._middle.run_on({last} if apart else everywhere)

    async def _cpu_s(self) -> float:
        return 0.0 if self._middle is None else float(await self._middle.ask("cpu"))


@asynccontextmanager
async def data_path(certificates: Certificates, middle: Middle) -> AsyncIterator[DataPath]:
    """Start the processes of a path, and end them when the context does.

    Raises:
        RuntimeError: If one of them does not start.
    """
    async with AsyncExitStack() as stack:
        websocket = ["--websocket"] if middle is Middle.CLIENT else []
        far_end = await stack.enter_async_context(
            started("far_end", "--certificate", str(certificates.server), *websocket)
        )
        to_far_end = ("--port", await far_end.hear(), "--ca", str(certificates.ca))
        if middle is Middle.NOTHING:
            usb_host = await stack.enter_async_context(started("usb_host", *to_far_end))
            between = None
        else:
            (host_data, data), (host_control, control) = socket.socketpair(), socket.socketpair()
            with host_data, data, host_control, control:
                usb_host = await stack.enter_async_context(
                    started("usb_host", data=host_data, control=host_control)
                )
                between = await stack.enter_async_context(
                    started(middle, *to_far_end, data=data, control=control)
                )
            await between.expect("ready")
        await far_end.expect("ready")
        yield DataPath(usb_host, between, far_end)


class Process:
    """A process of the benchmarks that is talked to in lines, and ends when there are no more."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout

    async def hear(self) -> str:
        """Return the next line."""
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                line = await self._stdout.readline()
        except TimeoutError as exc:
            raise RuntimeError("a process of the benchmark is stuck") from exc
        if not line:
            raise RuntimeError("a process of the benchmark has ended")
        return line.decode().strip()

    async def ask(self, line: str) -> str:
        """Say a line and return the answer."""
        self._stdin.write(f"{line}\n".encode())
        return await self.hear()

    async def expect(self, line: str) -> None:
        """Wait for this line."""
        heard = await self.hear()
        assert heard == line, f"{heard!r} in place of {line!r}"

    def run_on(self, cpus: set[int]) -> None:
        """Let it run on these CPUs only."""
        os.sched_setaffinity(self._process.pid, cpus)

    async def end(self) -> None:
        """End it, the hard way if need be."""
        self._stdin.close()
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def started(
    module: str,
    *arguments: str,
    data: socket.socket | None = None,
    control: socket.socket | None = None,
) -> AsyncIterator[Process]:
    """Run a module of this package, with the sockets of a usb-host or of its parent."""
    sockets = {"--data": data, "--control": control}
    inherited = {name: end.fileno() for name, end in sockets.items() if end is not None}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"benchmarks.{module}",
        *arguments,
        *(f"{name}={descriptor}" for name, descriptor in inherited.items()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE_BYTES,
        pass_fds=inherited.values(),
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"]},  # no proxy, for instance
    )
    handle = Process(process)
    try:
        yield handle
    finally:
        await handle.end()
