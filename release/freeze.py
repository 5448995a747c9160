"""Freezes the program: a folder with Python and all that it needs, which runs where it lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from release.failure import BuildFailed

NAME: Final = "kubectl-vmredir"
"""Of the program, and of the folder that it is in."""

ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Frozen:
    """The frozen program.

    Attributes:
        folder: It and all that it needs.
        modules: Names of the Python modules that are in it.
        libraries: Each shared library or extension that is in it, by its path below
            ``_internal``, with the file that it was copied from.
    """

    folder: Path
    modules: tuple[str, ...]
    libraries: dict[str, Path]


def freeze(build: Path, *, epoch: int) -> Frozen:
    """Freeze the program, out of what is installed beside this Python.

    Args:
        build: Where all files go.
        epoch: When it is made, as far as the files are to tell, in seconds since 1970.

    Raises:
        BuildFailed: If it cannot be.
    """
    contents = build / "contents.json"
    environment = os.environ | {
        "PYTHONHASHSEED": "0",  # the order of names in a compiled module is to be the same
        "SOURCE_DATE_EPOCH": str(epoch),
        "PYINSTALLER_CONFIG_DIR": str(build / "cache"),
        # Its hook would open the USB devices of this machine to see which library it gets.
        "PYINSTALLER_USB_HOOK_SKIP_PYUSB_DISCOVERY": "1",
    }
    command = [
        sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN",
        "--workpath", str(build / "work"), "--distpath", str(build / "frozen"),
        str(ROOT / "release" / "kubectl-vmredir.spec"), "--", str(ROOT), str(contents),
    ]  # fmt: skip
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise BuildFailed("PyInstaller could not freeze the program")
    found = json.loads(contents.read_text(encoding="utf-8"))
    return Frozen(
        build / "frozen" / NAME,
        tuple(found["modules"]),
        {target: Path(source) for target, source in found["binaries"].items()},
    )
