"""Finds the real programs that the project is compared with; tests never fetch them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PACKED = _ROOT.parent / "shared" / "peers"


def peers_folder() -> Path | None:
    """Return the folder with virtctl and the others, or None.

    It is named by ``VMREDIR_PEERS``, else the default folder of ``unpack``, else it is unpacked
    from ``../shared/peers``.
    """
    if named := os.environ.get("VMREDIR_PEERS"):
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    unpacked = cache / "vmredir-peers"
    if (unpacked / "virtctl").exists():
        return unpacked
    if (_PACKED / "unpack").exists():
        done = subprocess.run([_PACKED / "unpack"], check=True, capture_output=True, text=True)
        return Path(done.stdout.strip())
    return None


def peer(name: str) -> Path:
    """Return the path of one program.

    Raises:
        FileNotFoundError: If it is not there; names it.
    """
    folder = peers_folder()
    if folder is None or not (folder / name).exists():
        raise FileNotFoundError(f"peer program {name!r}: set VMREDIR_PEERS to its folder")
    return folder / name


def control_plane() -> Path:
    """Return the folder whose package ``rig`` starts a real control plane."""
    return _PACKED / "control-plane"
