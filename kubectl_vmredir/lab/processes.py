"""Components of a lab as processes of their own, which end with the lab, however it ends."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import kubectl_vmredir
from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.child import NAME
from kubectl_vmredir.program import program

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

START_TIMEOUT_S: Final = 30.0
_END_TIMEOUT_S: Final = 10.0
_PACKAGE_FOLDER: Final = Path(kubectl_vmredir.__file__).parents[1]


class Component:
    """``kubectl-vmredir lab-component ARGS`` in an empty folder; an async context manager.

    The process ends when its standard input does: at the end of the context, or when this process
    dies, whatever kills it.

    Args:
        name: For messages and the log.
        folder: Its working folder; made, mode 0700.
        args: Of the command.
    """

    def __init__(self, name: str, folder: Path, args: Sequence[str]) -> None:
        self.name = name
        self._folder = folder
        self._args = args
        self._process: asyncio.subprocess.Process

    @property
    def log(self) -> Path:
        """What it wrote to stderr."""
        return self._folder.with_name(f"{self._folder.name}.log")

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def __aenter__(self) -> Self:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if key != "KUBECONFIG"}
        search = [str(_PACKAGE_FOLDER), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, search))
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *program(), NAME, *self._args,
                cwd=self._folder,
                env=environment,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                start_new_session=True,  # what is pressed on a terminal is not for it
            )  # fmt: skip
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    def end(self) -> None:
        """Ask it to end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def kill(self) -> None:
        """End it as ``kill -9`` does."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def first_line(self) -> str:
        """Return the first line that it writes to stdout.

        Raises:
            LabError: If it ends before, or takes too long.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            raise LabError(f"the lab's {self.name} did not start", hint=f"See {self.log}")
        return line.decode().strip()
