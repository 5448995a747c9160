"""Unix sockets in run folders, whose paths may be longer than a socket's address."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

from kubectl_vmredir.model import SLOT_COUNT

CONSOLE: Final = "virt-serial0"
CONSOLE_LOG: Final = "virt-serial0-log"
SLOTS: Final = tuple(f"virt-usbredir-{slot}" for slot in range(SLOT_COUNT))


@contextmanager
def short_path(folder: Path, name: str) -> Iterator[str]:
    """Give a path to ``folder/name`` that fits into ``sun_path`` (108 bytes).

    It is good in this process only, and until the context ends.
    """
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def listen(folder: Path, name: str, *, backlog: int = 1) -> socket.socket:
    """Make a listening socket ``folder/name``, non-blocking; the caller closes it."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.setblocking(False)
        with short_path(folder, name) as path:
            listener.bind(path)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener
