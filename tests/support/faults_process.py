"""An agent in a process of its own, as seen from outside, and what it says of its inside."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubectl_vmredir.agent.places import Places

_ROOT: Final = Path(__file__).parents[2]
_LIMIT_S: Final = 60.0
_INODE_COLUMNS: Final = {"tcp": 9, "unix": 6}
"""Of the tables in proc_net(5)."""


@dataclass(frozen=True)
class Census:
    """What there is of a process.

    Attributes:
        tasks: By name.
        descriptors: By what they are.
        children: Processes.
        objects: By type, after a collection of garbage.
        malloc_bytes: What C code has in use.
        resident_kib: Memory, with all holes in it.
    """

    tasks: Counter[str]
    descriptors: Counter[str]
    children: int
    objects: Counter[str]
    malloc_bytes: int
    resident_kib: int

    def is_staffed_as(self, other: Census) -> bool:
        """Return whether tasks, descriptors and children are those of another one."""
        return (self.tasks, self.descriptors, self.children) == (
            other.tasks, other.descriptors, other.children,
        )  # fmt: skip


class AgentProcess:
    """The process.

    Attributes:
        places: Its files.
        log: All that it logs.
        complaints: What it wrote to stderr.
    """

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.places = _places(folder)
        self.log = folder / "log"
        self.complaints = folder / "stderr"
        self._process = process
        self._asking = asyncio.Lock()

    async def kill_host(self, serial: str) -> bool:
        """Kill the usb-host of a device; return whether there was one."""
        return bool(json.loads(await self._obeyed("kill-host", serial)))

    async def census(self) -> Census:
        """Count."""
        inside = json.loads(await self._obeyed("census"))
        return Census(
            tasks=Counter(inside["tasks"]),
            descriptors=self._descriptors(),
            children=self._children(),
            objects=Counter(inside["objects"]),
            malloc_bytes=int(inside["malloc_bytes"]),
            resident_kib=self.resident_kib,
        )

    @property
    def resident_kib(self) -> int:
        """Memory of the process."""
        found = re.search(r"^VmRSS:\s+(\d+) kB$", self._proc("status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])

    async def end(self) -> int | None:
        """Wait until it has ended, and return its exit status."""
        async with asyncio.timeout(_LIMIT_S):
            await self._process.communicate()
        return self._process.returncode

    async def hear(self) -> bytes:
        """Return what it says next."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, f"the agent has ended: {self.complaints.read_text()}"
        return line

    async def _obeyed(self, *order: str) -> bytes:
        assert self._process.stdin is not None
        async with self._asking, asyncio.timeout(_LIMIT_S):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            return await self.hear()

    def _descriptors(self) -> Counter[str]:
        sockets = {
            line.split()[column]: kind
            for kind, column in _INODE_COLUMNS.items()
            for line in self._proc(f"net/{kind}").read_text().splitlines()[1:]
        }
        found: Counter[str] = Counter()
        for entry in self._proc("fd").iterdir():
            target = os.readlink(entry)
            if inode := re.fullmatch(r"socket:\[(\d+)\]", target):
                target = f"socket of {sockets.get(inode[1], 'another kind')}"
            found[re.sub(r"\d+", "N", target)] += 1
        return found

    def _children(self) -> int:
        return sum(len(path.read_text().split()) for path in self._proc("task").glob("*/children"))

    def _proc(self, name: str) -> Path:
        return Path("/proc", str(self._process.pid), name)


def _places(folder: Path) -> Places:
    return Places(folder / "run" / "kubectl-vmredir", folder / "state" / "kubectl-vmredir")


@asynccontextmanager
async def agent_process(folder: Path, devices: Path) -> AsyncIterator[AgentProcess]:
    """Start an agent, whose files are in a folder; killed at the end if it still runs."""
    for name in ("run", "state"):
        (folder / name).mkdir(mode=0o700)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": str(_ROOT),
        # httpcore leaves the socket of a TLS handshake that is cancelled to the collector of
        # garbage; that none is left is seen by counting them.
        "PYTHONWARNINGS": "always,ignore:unclosed:ResourceWarning",
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    with (folder / "stderr").open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.support.faults_agent", str(devices), str(folder / "log"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stderr,
            env=environment,
            cwd=_ROOT,
            limit=1 << 20,
        )  # fmt: skip
    agent = AgentProcess(process, folder)
    try:
        async with asyncio.timeout(_LIMIT_S):
            await agent.hear()
        yield agent
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
