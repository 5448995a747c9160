"""Runs kubectl and virtctl, unmodified, with a kubeconfig and an empty home."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.support.commands import Done

LIMIT_S: Final = 20.0


class RealClient:
    """One program, run as often as wanted.

    Args:
        program: Name or path.
        kubeconfig: Whose users it acts for.
        home: Its home folder; made.
        path: Folders in which it looks for plugins before those of ``PATH``.
    """

    def __init__(self, program: str | Path, kubeconfig: Path, home: Path, path: str = "") -> None:
        home.mkdir(exist_ok=True)
        self._program = program
        self._environment = {
            "PATH": os.pathsep.join(filter(None, (path, os.environ["PATH"]))),
            "KUBECONFIG": str(kubeconfig),
            "HOME": str(home),
        }

    async def __call__(self, *arguments: str, stdin: str = "") -> Done:
        """Run to the end."""
        async with self.started(*arguments) as process, asyncio.timeout(LIMIT_S):
            out, err = await process.communicate(stdin.encode())
        return Done(process.returncode or 0, out.decode(), err.decode())

    @asynccontextmanager
    async def started(self, *arguments: str) -> AsyncIterator[Process]:
        """Run as long as the context lasts."""
        process = await asyncio.create_subprocess_exec(
            self._program, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=self._environment
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
