"""Builds what users install, in ``dist``: ``python -m release``, or ``make dist``."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from kubectl_vmredir import __version__
from release import archive, licences, manifest
from release.failure import BuildFailed, said_by
from release.freeze import NAME, ROOT, Frozen, freeze
from release.libraries import GLIBC_FLOOR, glibc_needed

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
"""What Go calls what the kernel calls."""

_MIB: Final = 1 << 20


def build_archive(folder: Path, build: Path, epoch: int) -> Path:
    """Freeze the program and pack it for this machine's architecture; return the archive.

    Args:
        folder: Where the archive goes.
        build: Where all else goes.
        epoch: The time of all files in it, in seconds since 1970.

    Raises:
        BuildFailed: If it cannot be built, or would not run where it is to.
    """
    frozen = freeze(build, epoch=epoch)
    _check_glibc(frozen)
    shutil.copyfile(ROOT / "LICENSE", frozen.folder / "LICENSE")
    licences.collect(frozen, frozen.folder / "licences")
    packed = folder / manifest.archive_name(__version__, _ARCHITECTURES[platform.machine()])
    archive.pack(frozen.folder, packed, epoch=epoch)
    return packed


def build_packages(folder: Path, epoch: int) -> None:
    """Build wheel and source distribution.

    Raises:
        BuildFailed: If they cannot be built.
    """
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch)}
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise BuildFailed("hatchling could not build wheel and source distribution")


def _check_glibc(frozen: Frozen) -> None:
    files = [frozen.folder / NAME, *(frozen.folder / "_internal" / at for at in frozen.libraries)]
    needed = glibc_needed(files)
    if needed > GLIBC_FLOOR:
        raise BuildFailed(
            f"what is built on this machine needs glibc {needed[0]}.{needed[1]}, and is to need "
            f"no newer one than {GLIBC_FLOOR[0]}.{GLIBC_FLOOR[1]}: build it on an older system"
        )


def _epoch() -> int:
    """Return the time that all files are to have: of the last commit, or as the caller says."""
    if said := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(said)
    return int(said_by("git", "-C", str(ROOT), "log", "-1", "--format=%ct"))


def main() -> int:
    """Build; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "dist", help="where it goes")
    parser.add_argument("--only-manifest", action="store_true", help="of the archives in it")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if not options.only_manifest:
            epoch = _epoch()
            build_packages(folder, epoch)  # compiles the edges, which the archive has as well
            packed = build_archive(folder, ROOT / "build" / "release", epoch)
            print(f"{packed}: {packed.stat().st_size / _MIB:.1f} MiB")
        print(manifest.write(folder, __version__))
    except BuildFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
