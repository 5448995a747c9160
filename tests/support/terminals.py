"""Runs the command on a terminal of its own, with keys to press."""

from __future__ import annotations

import asyncio
import codecs
import os
import pty
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO, Final

from tests.support.commands import LIMIT_S, Cli

CTRL_C: Final = "\x03"

# Makes the terminal on stdin its own, as a shell's child has it; only then do keys make signals.
_WITH_TERMINAL: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command on a terminal."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self._process = process
        self._master = master
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._said = ""
        self._heard = asyncio.Event()
        self._open = True
        os.set_blocking(master, False)
        asyncio.get_running_loop().add_reader(master, self._read)

    @property
    def said(self) -> str:
        """What it has written so far, and was not waited for."""
        return self._said

    async def says(self, words: str) -> str:
        """Wait for these words; return all up to them, which is then forgotten."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while words not in self._said:
                    assert self._open, f"ended without {words!r}: {self._said}"
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError as exc:
            raise AssertionError(f"never said {words!r}, but:\n{self._said}") from exc
        before, _, self._said = self._said.partition(words)
        return before + words

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def hang_up(self) -> None:
        """Close the window."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)

    def terminate(self) -> None:
        """Send the signal that asks it to end."""
        self._process.terminate()

    async def end(self) -> int:
        """Wait until it has ended; return its exit status."""
        async with asyncio.timeout(LIMIT_S):
            return await self._process.wait()

    def _read(self) -> None:
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # nobody has the other end any more
            data = b""
        if data:
            self._said += self._decoder.decode(data)
        else:
            self.hang_up()
        self._heard.set()


@asynccontextmanager
async def on_a_terminal(
    cli: Cli, *arguments: str, stdout: IO[bytes] | None = None
) -> AsyncIterator[Terminal]:
    """Start the command on a terminal, and kill it at the end if it still runs.

    Args:
        cli: The command.
        arguments: Its arguments.
        stdout: Takes its output instead.
    """
    master, slave = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-ISc", _WITH_TERMINAL, *cli.program, *arguments,
        stdin=slave, stdout=stdout or slave, stderr=slave, env=cli.variables, cwd=cli.home,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        terminal.hang_up()
