"""How this program is started again, by itself: from Python, or out of a folder of its own."""

from __future__ import annotations

import sys


def program() -> tuple[str, ...]:
    """Return the command that runs this program again; arguments go behind it."""
    if getattr(sys, "frozen", False):
        return (sys.executable,)
    # -P: the working folder is the user's, and whatever lies there is no module of ours.
    return (sys.executable, "-P", "-m", "kubectl_vmredir")
