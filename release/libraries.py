"""The shared libraries that the frozen program brings along: where they are, and what they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.usb.library import LIBUSB, LIBUSBREDIRHOST
from release.failure import BuildFailed, said_by

if TYPE_CHECKING:
    from collections.abc import Iterable

BUNDLED: Final = (LIBUSB, LIBUSBREDIRHOST, "libusbredirparser.so.1")
"""Those that the program loads by name; what they and Python are linked to comes by itself."""

GLIBC_FLOOR: Final = (2, 35)
"""The oldest glibc that the program is to run on: Debian 12, Ubuntu 22.04, Fedora 36."""

_LOADABLE: Final = re.compile(r"^\s*(\S+) \(libc6\b.*\) => (\S+)$", re.MULTILINE)
_GLIBC: Final = re.compile(r"\bGLIBC_(\d+)\.(\d+)")


def locate(soname: str) -> Path:
    """Return the file of a library of this machine.

    Raises:
        BuildFailed: If there is none.
    """
    listing = said_by("/sbin/ldconfig", "-p")
    found = [path for name, path in _LOADABLE.findall(listing) if name == soname]
    if not found:
        raise BuildFailed(f"{soname} is not installed; on Debian: make packages")
    return Path(found[0])


def glibc_needed(files: Iterable[Path]) -> tuple[int, int]:
    """Return the oldest glibc that has all that programs and libraries ask of it.

    Raises:
        BuildFailed: If a file cannot be read.
    """
    listing = said_by("objdump", "-p", *map(str, files))
    return max((int(major), int(minor)) for major, minor in _GLIBC.findall(listing))
