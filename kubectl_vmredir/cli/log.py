"""The log of a command, on stderr."""

from __future__ import annotations

import logging
from typing import Final

from kubectl_vmredir.cli.output import printable

_LEVELS: Final = {0: logging.WARNING, 1: logging.WARNING, 2: logging.INFO, 3: logging.INFO}
_CHATTY: Final = ("httpx", "httpcore", "asyncio", "picows")
"""Packages whose log is for those who look for bugs in them: from level 6 on."""


def quiet_libraries() -> None:
    """Hear no more from servers and loops: connections are about to be cut, on purpose."""
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class _Formatter(logging.Formatter):
    """Warnings are for the user and look so; the rest is a log."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; it may hold text of the cluster."""
        if record.levelno == logging.WARNING:
            return f"warning: {printable(record.getMessage())}"
        return super().format(record)


def start_logging(verbosity: int) -> None:
    """Send the log to stderr, as much of it as was asked for.

    Args:
        verbosity: 0 tells warnings, 2 changes of state, 4 packets, 6 all.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname).1s %(name)s: %(message)s"))
    logging.basicConfig(level=_LEVELS.get(verbosity, logging.DEBUG), handlers=[handler])
    if verbosity < 6:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
