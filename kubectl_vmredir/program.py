"""How this program is started again, by itself: from Python, or out of a folder of its own."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Final

_NAME: Final = "kubectl-vmredir"


def program() -> tuple[str, ...]:
    """Return the command that runs this program again; arguments go behind it."""
    if getattr(sys, "frozen", False):
        return (sys.executable,)
    # -P: the working folder is the user's, and whatever lies there is no module of ours.
    return (sys.executable, "-P", "-m", "kubectl_vmredir")


def lasting_program() -> tuple[str, ...]:
    """Return a command that runs this program also after it has been upgraded.

    krew keeps each version in a folder of its own, and has a link on the PATH to the newest one.
    """
    command, *arguments = program()
    link = None if arguments else shutil.which(_NAME)
    if link is not None and os.path.samefile(link, command):
        return (os.path.abspath(link),)
    return (command, *arguments)
