"""The log of a command, on stderr; or in a file, where the screen is taken."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.cli.output import printable

if TYPE_CHECKING:
    from pathlib import Path

_LEVELS: Final = {0: logging.WARNING, 1: logging.WARNING, 2: logging.INFO, 3: logging.INFO}
_FILE_BYTES: Final = 1 << 20
_FORMAT: Final = "%(asctime)s %(levelname).1s %(name)s: %(message)s"

_CHATTY: Final = ("httpx", "httpcore", "asyncio", "picows")
"""Packages whose log is for those who look for bugs in them: from level 6 on."""


def quiet_libraries() -> None:
    """Hear no more from servers and loops: connections are about to be cut, on purpose."""
    for name in ("aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class _Lines(logging.Formatter):
    """One line for each message, whatever text of a device or the cluster is in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line, without the traceback."""
        return printable(super().formatMessage(record))


class _LinesForPeople(_Lines):
    """Warnings are for the user and look so; the rest is a log."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        if record.levelno == logging.WARNING:
            return f"warning: {printable(record.getMessage())}"
        return super().format(record)


def start_logging(verbosity: int) -> None:
    """Send the log to stderr, as much of it as was asked for.

    Args:
        verbosity: 0 tells warnings, 2 changes of state, 4 packets, 6 all.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_LinesForPeople(_FORMAT))
    logging.basicConfig(level=_LEVELS.get(verbosity, logging.DEBUG), handlers=[handler])
    if verbosity < 6:
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)


def log_to(path: Path) -> None:
    """Send the log to a file instead: changes of state at least, or what was asked for."""
    from kubectl_vmredir.cli.log_file import LogFile  # late: slow to import, and seldom needed

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = LogFile(path, maxBytes=_FILE_BYTES, backupCount=1)
    handler.setFormatter(_Lines(_FORMAT))
    level = min(logging.getLogger().level, logging.INFO)
    logging.basicConfig(level=level, handlers=[handler], force=True)
