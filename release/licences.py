"""The licence texts of all that the frozen program brings along."""

from __future__ import annotations

import re
import shutil
import sys
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Final

from release.failure import BuildFailed, said_by

if TYPE_CHECKING:
    from collections.abc import Iterable

    from release.freeze import Frozen

_OURS: Final = "kubectl-vmredir"
_FREEZER: Final = "pyinstaller"
"""Its bootloader is the program that starts Python."""

_TEXT: Final = re.compile(r"(licen[cs]e|copying|notice|copyright|authors)", re.IGNORECASE)
_COMMON: Final = re.compile(r"/usr/share/common-licenses/([A-Z][A-Za-z0-9.-]*[A-Za-z0-9])")
_COMMON_FOLDER: Final = Path("/usr/share/common-licenses")

_README: Final = """\
Licences of what comes with kubectl-vmredir, whose own is in ../LICENSE.

python/      Python packages, each with the texts that it was published with
libraries/   shared libraries, each with the text of the Debian package it is from, in the version
             that stands in VERSIONS
common/      texts that those refer to as /usr/share/common-licenses

libusb (LGPL-2.1-or-later), libusbredirhost and libusbredirparser (LGPL-2.1-or-later) are loaded as
shared libraries, unmodified, from the folder _internal. You may replace them there by versions of
your own with the same interface. Their sources are Debian's, in the versions that stand in
VERSIONS: apt-get source PACKAGE=VERSION
"""


def collect(frozen: Frozen, folder: Path) -> None:
    """Write all texts into a new folder.

    Raises:
        BuildFailed: If something has none.
    """
    folder.mkdir()
    (folder / "README").write_text(_README, encoding="utf-8")
    for name in _distributions(frozen):
        _copy(_texts_of(name), folder / "python" / name)
    _copy([_python_text()], folder / "python" / "cpython")
    versions = []
    for package in _packages(frozen.libraries.values()):
        copyright_ = Path("/usr/share/doc", package.partition(":")[0], "copyright")
        _copy([copyright_], folder / "libraries" / copyright_.parent.name)
        versions.append(said_by("dpkg-query", "-W", f"-f={_VERSIONS}", package))
        text = copyright_.read_text(encoding="utf-8")
        _copy((_COMMON_FOLDER / name for name in _COMMON.findall(text)), folder / "common")
    (folder / "VERSIONS").write_text("".join(sorted(versions)), encoding="utf-8")


_VERSIONS: Final = "${binary:Package} ${Version}, of ${source:Package} ${source:Version}\\n"


def _distributions(frozen: Frozen) -> list[str]:
    """Return the names of the packages of Python that something in it is from."""
    owners = packages_distributions()
    top = {name.partition(".")[0] for name in frozen.modules}
    found = {owner for name in top for owner in owners.get(name, ())}
    return sorted(found - {_OURS} | {_FREEZER}, key=str.lower)


def _texts_of(name: str) -> list[Path]:
    """Return the files with the licence of a package of Python."""
    files = distribution(name).files or []
    return [
        Path(str(file.locate()))
        for file in files
        if file.parts[0].endswith(".dist-info") and _TEXT.search(file.name)
    ]


def _python_text() -> Path:
    for text in (
        Path(sys.base_prefix, "lib", f"python3.{sys.version_info.minor}", "LICENSE.txt"),
        Path(f"/usr/share/doc/python3.{sys.version_info.minor}/copyright"),
    ):
        if text.exists():
            return text
    raise BuildFailed("this Python comes without its licence")


def _packages(files: Iterable[Path]) -> list[str]:
    """Return the packages of Debian that libraries are from, but for what came with Python."""
    # Some packages still say /lib, where all is in /usr/lib.
    python = {sys.prefix, sys.base_prefix} - {"/usr"}
    foreign = {
        f"*{str(file.resolve()).removeprefix('/usr')}"
        for file in files
        if not any(map(file.is_relative_to, python))
    }
    owners = said_by("dpkg", "--search", *sorted(foreign)).splitlines()
    if len(owners) != len(foreign):
        raise BuildFailed(f"not of one package of Debian each: {sorted(foreign)}")
    return sorted({line.rpartition(": ")[0] for line in owners})


def _copy(texts: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for text in texts:
        shutil.copyfile(text, folder / text.name)
    if not any(folder.iterdir()):
        raise BuildFailed(f"there is no licence text of {folder.name}")
