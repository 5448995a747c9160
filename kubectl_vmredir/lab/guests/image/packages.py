"""Gets Debian packages with apt, without installing them and without root."""

from __future__ import annotations

import logging
import re
import subprocess
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

_APT_TIMEOUT_S: Final = 600.0
"""For one call of apt; a kernel is 70 MB."""
_UNPACK_TIMEOUT_S: Final = 300.0

KERNEL: Final = "linux-image-amd64"
"""Depends on the kernel of the release; only that one carries its ABI in the name."""
BUSYBOX: Final = "busybox-static"


def fetch(folder: Path) -> Sequence[Path]:
    """Download the kernel and busybox, and return the two packages in this order.

    Takes the lists of the system if they are there and not too old, else makes lists of its
    own, in the folder, from the sources of the system.

    Raises:
        LabError: If apt is not there or cannot get them.
    """
    return _with_lists(folder, lambda options: _download(folder, options))


def fetch_with_dependencies(folder: Path, names: Sequence[str]) -> Sequence[Path]:
    """Download packages and all that they depend on, as on a machine where nothing is installed.

    Raises:
        LabError: If apt is not there, cannot get them, or finds that they cannot be together.
    """
    return _with_lists(folder, lambda options: _download_all(folder, options, names))


def _with_lists(
    folder: Path, download: Callable[[Sequence[str]], Sequence[Path]]
) -> Sequence[Path]:
    """Download with the lists of the system, or else with own ones; ``download`` takes options."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return download(())
    except LabError as error:
        logger.info("%s; trying with lists of our own", error)
    options = _own_lists(folder / "apt")
    try:
        _apt("apt-get", options, "update", cwd=folder)
    except LabError as error:
        # Another source of the system may be broken; whether Debian's is, the download tells.
        logger.info("%s", error)
    return download(options)


def unpack(package: Path, folder: Path) -> None:
    """Unpack the files of a package.

    Raises:
        LabError: If it is broken.
    """
    _run(["dpkg-deb", "--extract", str(package), str(folder)], folder, _UNPACK_TIMEOUT_S)


def _download(folder: Path, options: Sequence[str]) -> Sequence[Path]:
    about = _apt("apt-cache", options, "show", "--no-all-versions", KERNEL, cwd=folder)
    found = re.search(r"^Depends:.*?\b(linux-image-\d[^\s,]*)", about, re.MULTILINE)
    if found is None:
        raise LabError(f"apt knows no kernel behind {KERNEL}")
    return [_download_one(folder, options, name) for name in (found[1], BUSYBOX)]


def _download_one(folder: Path, options: Sequence[str], name: str) -> Path:
    # A folder of its own: apt names the file after the version, and one with the right name and
    # hash is not fetched again.
    own = folder / name
    own.mkdir(exist_ok=True)
    logger.info("getting %s", name)
    _apt("apt-get", options, "download", f"{name}:amd64", cwd=own)
    return max(own.glob("*.deb"), key=lambda path: path.stat().st_mtime)


def _download_all(folder: Path, options: Sequence[str], names: Sequence[str]) -> Sequence[Path]:
    nothing = (*options, "-o", "Dir::State::status=/dev/null", "-o", "APT::Architecture=amd64")
    solution = _apt(
        "apt-get", nothing, "install", "--print-uris", "-qq", "--no-install-recommends", *names,
        cwd=folder,
    )  # fmt: skip
    # A line is: 'URI' FILE SIZE HASH
    files = [folder / line.split()[1] for line in solution.splitlines() if line.startswith("'")]
    if missing := [file.name.partition("_")[0] for file in files if not file.exists()]:
        logger.info("getting %d packages", len(missing))
        _apt("apt-get", nothing, "download", *missing, cwd=folder)
    return files


def _own_lists(folder: Path) -> Sequence[str]:
    for needed in ("state/lists/partial", "cache/archives/partial"):
        (folder / needed).mkdir(parents=True, exist_ok=True)
    return (
        "-o", f"Dir::State={folder / 'state'}",
        "-o", f"Dir::Cache={folder / 'cache'}",
        "-o", "APT::Sandbox::User=",
    )  # fmt: skip


def _apt(program: str, options: Sequence[str], *command: str, cwd: Path) -> str:
    return _run([program, *options, *command], cwd, _APT_TIMEOUT_S)


def _run(argv: Sequence[str], cwd: Path, timeout_s: float) -> str:
    try:
        done = subprocess.run(
            argv, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError as exc:
        raise LabError(
            f"the guest image is made with {argv[0]}, which is not here",
            hint="Build it on Debian, or use the simulated guest: --backend sim",
        ) from exc
    except subprocess.TimeoutExpired as exc:
        raise LabError(f"{argv[0]} took more than {timeout_s:.0f} s") from exc
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise LabError(f"{' '.join(argv)} failed: {''.join(last)}")
    return done.stdout
