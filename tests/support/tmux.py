"""Runs the command in tmux, as a person does who looks at the screen and presses keys."""

from __future__ import annotations

import asyncio
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.support.commands import Cli

LIMIT_S: Final = 60.0
_PANE: Final = "the-program"


class Screen:
    """A terminal with the program on it.

    Args:
        socket: Of the tmux server.
        events: Tells of each output.
    """

    def __init__(self, socket: Path, events: asyncio.StreamReader) -> None:
        self._socket = socket
        self._events = events

    async def press(self, *keys: str) -> None:
        """Press keys, as tmux names them."""
        await _tmux(self._socket, "send-keys", "-t", _PANE, *keys)

    async def text(self) -> str:
        """Return what is on the screen."""
        return await _tmux(self._socket, "capture-pane", "-p", "-t", _PANE)

    async def sees(self, *texts: str) -> str:
        """Wait until all of the texts are on the screen; return what is."""
        seen = await self.text()
        try:
            async with asyncio.timeout(LIMIT_S):
                while not all(text in seen for text in texts):
                    assert await self._events.readline(), f"it has ended:\n{seen}"
                    seen = await self.text()
        except TimeoutError as exc:
            raise AssertionError(f"waited for {texts} on the screen:\n{seen}") from exc
        return seen


@asynccontextmanager
async def in_tmux(
    cli: Cli, *arguments: str, size: tuple[int, int], below: str = "{}"
) -> AsyncIterator[Screen]:
    """Start the command in a terminal of that many columns and lines; end both at the end.

    Args:
        cli: The command.
        arguments: Its arguments.
        size: Columns and lines.
        below: The line for a shell that starts it, in place of the braces.
    """
    variables = shlex.join(f"{name}={value}" for name, value in cli.variables.items())
    program = shlex.join((sys.executable, "-m", "kubectl_vmredir", *arguments))
    with tempfile.TemporaryDirectory(prefix="vmredir-tmux-") as folder:
        socket = Path(folder, "socket")
        await _tmux(
            socket, "-f", "/dev/null", "new-session", "-d", "-s", _PANE,
            "-x", str(size[0]), "-y", str(size[1]), "-c", str(cli.home),
            below.format(f"env -i TERM=screen-256color {variables} {program}")
            + "; echo status $?; exec cat",
        )  # fmt: skip
        await _tmux(socket, "set-option", "-g", "window-size", "manual")
        watcher = await asyncio.create_subprocess_exec(
            "tmux", "-S", str(socket), "-C", "attach-session", "-r", "-t", _PANE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert watcher.stdout is not None
        try:
            yield Screen(socket, watcher.stdout)
        finally:
            await _tmux(socket, "kill-server")
            # Not wait(): with output that nobody has read it would wait for ever.
            await watcher.communicate()


async def _tmux(socket: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "tmux", "-u", "-S", str(socket), *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"tmux {arguments} failed"
    return out.decode()
