"""Why nothing was built, and the programs of this machine that may be why."""

from __future__ import annotations

import subprocess


class BuildFailed(Exception):
    """A sentence for whoever builds."""


def said_by(*command: str) -> str:
    """Run a program; return what it says.

    Raises:
        BuildFailed: If it is not here, or fails.
    """
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as exc:
        raise BuildFailed(f"there is no {command[0]} here") from exc
    except subprocess.CalledProcessError as exc:
        raise BuildFailed(f"{command[0]} failed: {exc.stderr.strip()}") from exc
