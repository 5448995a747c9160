"""Whether a process is about to be gone, with all that the kernel keeps for it.

A process that was killed is not gone yet: it may still be in a call into the kernel, and the locks
that it holds go when its files are closed. Source: proc(5); ``PF_EXITING`` of
``include/linux/sched.h``, Linux 6.1.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Final

_PF_EXITING: Final = 0x4
_FLAGS: Final = 6
"""Index of the flags in ``stat``, behind the name of the program, which may have any text."""

_PENDING: Final = re.compile(r"^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$", re.MULTILINE)
_KILLED: Final = 1 << (signal.SIGKILL - 1)


def is_ending(pid: int) -> bool:
    """Return whether a process is gone, or cannot but go."""
    folder = Path(f"/proc/{pid}")
    try:
        return says_ending(
            (folder / "stat").read_text(errors="replace"),
            (folder / "status").read_text(errors="replace"),
        )
    except OSError:
        return True


def says_ending(stat: str, status: str) -> bool:
    """Return whether these files of a process say that it ends, or has been killed."""
    flags = stat.rpartition(")")[2].split()[_FLAGS]
    pending = _PENDING.findall(status)
    return bool(int(flags) & _PF_EXITING) or any(int(each, 16) & _KILLED for each in pending)
