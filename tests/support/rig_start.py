"""Starts the real control plane of the peers, their package ``rig``, in this process."""

from __future__ import annotations

import importlib
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tests.support.peers import control_plane, peers_folder

_STARTS: Final = 3


def rig_module(name: str) -> ModuleType:
    """Return a module of the package ``rig``."""
    sys.dont_write_bytecode = True
    if (folder := str(control_plane())) not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(f"rig.{name}")


def start_rig(
    stack: ExitStack,
    folder: Path,
    **options: Any,  # noqa: ANN401 - rig has no types
) -> Any:  # noqa: ANN401
    """Start a control plane that ends with the stack, and return it.

    It chooses free ports, and another program may listen there before it does: then it is
    started again.

    Args:
        stack: Ends it.
        folder: An empty one, but for logs.
        options: For ``rig.cluster.Rig``.

    Raises:
        FileNotFoundError: If its programs are not there.
    """
    if (programs := peers_folder()) is None:
        raise FileNotFoundError("the peers' programs: set VMREDIR_PEERS to their folder")
    new_rig = rig_module("cluster").Rig
    for _ in range(_STARTS - 1):
        try:
            return stack.enter_context(new_rig(folder, bin_dir=programs, **options))
        except RuntimeError as exc:
            if "address already in use" not in str(exc):
                raise
            _empty(folder)
    return stack.enter_context(new_rig(folder, bin_dir=programs, **options))


def _empty(folder: Path) -> None:
    """Remove what a failed start has left, but for the logs of whoever started it."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix != ".log":
            path.unlink()
