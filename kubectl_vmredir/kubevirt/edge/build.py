"""Compiles the edge for the machines that VMs run on; a program of its own (``make edge``).

Standard library only: the wheel's build hook runs it before anything of ours is installed. The
compiler is zig's, from the package ziglang, whose C library and linker come with it: the same bytes
come out wherever it runs (docs/adr/0005-edge-in-c.md).
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ARCHITECTURES: Final = ("x86_64", "aarch64")
"""As ``uname -m`` of a node says them."""
COMPILER: Final = "ziglang==0.17.1"
"""Another one makes other bytes."""
FOLDER: Final = Path(__file__).parent
BINARIES: Final = FOLDER / "binaries"

_FLAGS: Final = (
    "-std=gnu11",
    "-Os",
    "-static",
    "-s",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-Wl,--gc-sections",
)
_TIMEOUT_S: Final = 300.0  # the first time, zig compiles its C library


class CompilerMissing(Exception):
    """The package ziglang is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "the package ziglang is missing, which compiles the edge; without the edge there are "
            "no seamless handovers. Install it and compile: pip install ziglang && make edge"
        )


def compiler_found() -> bool:
    """Return whether there is a compiler."""
    return importlib.util.find_spec("ziglang") is not None


def compile_edge(architecture: str, target: Path) -> None:
    """Write the program for one of :data:`ARCHITECTURES` to ``target``.

    Raises:
        CompilerMissing: If there is no compiler.
        subprocess.CalledProcessError: If it does not compile.
    """
    if not compiler_found():
        raise CompilerMissing
    sources = sorted(path.name for path in FOLDER.glob("*.c"))
    with tempfile.TemporaryDirectory(prefix="edge-") as folder:
        # Names without folders, so that none gets into the program.
        program = Path(folder) / "edge"
        subprocess.run(
            [
                *(sys.executable, "-m", "ziglang", "cc"),
                *("-target", f"{architecture}-linux-musl"),
                *_FLAGS,
                *sources,
                *("-o", str(program)),
            ],
            cwd=FOLDER,
            env={**os.environ, "SOURCE_DATE_EPOCH": "0"},
            check=True,
            timeout=_TIMEOUT_S,
        )
        data = program.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".new")
    unfinished.write_bytes(data)
    unfinished.replace(target)


def build() -> list[Path]:
    """Compile all, and return the programs.

    Raises:
        CompilerMissing: If there is no compiler.
        subprocess.CalledProcessError: If they do not compile.
    """
    programs = [BINARIES / f"edge-{architecture}" for architecture in ARCHITECTURES]
    for architecture, program in zip(ARCHITECTURES, programs, strict=True):
        compile_edge(architecture, program)
    return programs


if __name__ == "__main__":
    try:
        build()
    except CompilerMissing as error:
        sys.exit(f"error: {error}")
