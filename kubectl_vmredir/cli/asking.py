"""Questions to the user, on the terminal."""

from __future__ import annotations

import asyncio
import sys
import termios

from kubectl_vmredir.cli.diagnostics import say


def somebody_is_there() -> bool:
    """Return whether there is a terminal to ask on."""
    return sys.stdin is not None and sys.stdin.isatty()


async def answer_to(question: str, *, first: bool = True, own_line: bool = False) -> str | None:
    """Ask on the terminal; unlike click's question this one can be cancelled.

    Args:
        question: What to ask.
        first: Whether what was typed before is no answer to it.
        own_line: Whether the answer goes on another line, as other things may be said meanwhile.

    Returns:
        The answer, in lower case; None if the terminal is gone, or its input at an end.
    """
    loop = asyncio.get_running_loop()
    answered = asyncio.Event()
    try:
        if first:
            termios.tcflush(sys.stdin, termios.TCIFLUSH)
        say(question, end=own_line)
        loop.add_reader(sys.stdin.fileno(), answered.set)
        try:
            await answered.wait()
        finally:
            loop.remove_reader(sys.stdin.fileno())
        line = sys.stdin.readline()
    except (OSError, termios.error):
        return None
    return line.strip().lower() if line else None
