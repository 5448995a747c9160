"""Runs the command as a user does: a process, its exit status, and what it says."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LIMIT_S: Final = 60.0
_ROOT: Final = Path(__file__).parents[2]


# The interpreter may be out of another user's reach, so it loads what it needs before.
_AS_ANOTHER_USER: Final = """
import os, sys
from kubectl_vmredir.cli.main import main
user, arguments = int(sys.argv[1]), sys.argv[2:]
sys.stderr, stderr = open(os.devnull, "w"), sys.stderr
main([*arguments, "--kubeconfig", os.devnull])
sys.stderr = stderr
os.setgroups([]), os.setgid(user), os.setuid(user)
sys.exit(main(arguments))
"""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The words of each line of its output."""
        return [line.split() for line in self.out.splitlines()]


@dataclass(frozen=True)
class Cli:
    """Runs ``kubectl vmredir`` with an environment in which no cluster of the user's exists.

    Attributes:
        home: Home folder.
        environment: More variables.
        user: Become this uid first; only root can.
        program: What runs the command; as somebody else it is always this Python.
    """

    home: Path
    environment: Mapping[str, str]
    user: int | None = None
    program: tuple[str, ...] = (sys.executable, "-m", "kubectl_vmredir")

    @property
    def variables(self) -> Mapping[str, str]:
        """All variables of its environment."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONPATH": str(_ROOT),
            "XDG_RUNTIME_DIR": str(self.home),  # where no agent of the user's is
            **self.environment,
        }

    async def __call__(self, *arguments: str) -> Done:
        """Run to the end."""
        async with self.start(*arguments) as running:
            return await running.end()

    async def each(self, *lines: str) -> list[Done]:
        """Run several command lines at once, to their ends."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self(*line.split())) for line in lines]
        return [task.result() for task in tasks]

    @asynccontextmanager
    async def start(self, *arguments: str) -> AsyncIterator[Running]:
        """Start, and kill it at the end if it still runs."""
        program = self.program
        if self.user is not None:
            program = (sys.executable, "-c", _AS_ANOTHER_USER, str(self.user))
        process = await asyncio.create_subprocess_exec(
            *program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.variables,
            cwd=self.home,
        )
        try:
            yield Running(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


class Running:
    """A command that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said = ""

    async def says(self, words: str) -> str:
        """Wait for a line on stderr with these words, and return it."""
        assert self._process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            while line := (await self._process.stderr.readline()).decode():
                self._said += line
                if words in line:
                    return line
        raise AssertionError(f"never said {words!r}, but:\n{self._said}")

    async def prints(self) -> str:
        """Wait for the next line on stdout, and return it; empty at its end."""
        assert self._process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            return (await self._process.stdout.readline()).decode()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def end(self) -> Done:
        """Wait until it has ended."""
        async with asyncio.timeout(LIMIT_S):
            out, err = await self._process.communicate()
        assert self._process.returncode is not None
        return Done(self._process.returncode, out.decode(), self._said + err.decode())
