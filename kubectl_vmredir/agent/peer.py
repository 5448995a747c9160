"""Who is at the other end of a unix socket."""

from __future__ import annotations

import os
import socket
import struct
from typing import Final, Protocol

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid; unix(7)


class Options(Protocol):
    """A socket, or what asyncio shows of one."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """See :meth:`socket.socket.getsockopt`."""


def pid_of_peer(connected: Options) -> int:
    """Return the process id of whoever connected, or listened, at the other end."""
    return _credentials(connected)[0]


def uid_of_peer(connected: Options) -> int:
    """Return the effective user id of whoever connected, or listened, at the other end."""
    return _credentials(connected)[1]


def is_ours(connected: Options) -> bool:
    """Return whether the other end is a process of this user."""
    return uid_of_peer(connected) == os.geteuid()


def _credentials(connected: Options) -> tuple[int, int, int]:
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(found)
    return pid, uid, gid
