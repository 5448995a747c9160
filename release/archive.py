"""The archive that krew unpacks: files and folders, and neither links nor a way out.

Source: krew, internal/download/downloader.go, ``extractTARGZ``. The same files make the same
archive.
"""

from __future__ import annotations

import gzip
import tarfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM_MODE: Final = 0o755
_FILE_MODE: Final = 0o644


def pack(folder: Path, archive: Path, *, epoch: int) -> None:
    """Write a folder, under its own name, into a ``.tar.gz``; a link becomes what it leads to.

    Args:
        folder: The folder.
        archive: The file to write.
        epoch: The time of all files in it, in seconds since 1970.
    """
    with (
        archive.open("wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path in sorted([folder, *folder.rglob("*")]):
            entry = tarfile.TarInfo(str(path.relative_to(folder.parent)))
            entry.mtime = epoch
            if path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, _PROGRAM_MODE
                tar.addfile(entry)
                continue
            status = path.stat()
            entry.size = status.st_size
            entry.mode = _PROGRAM_MODE if status.st_mode & 0o100 else _FILE_MODE
            with path.open("rb") as content:
                tar.addfile(entry, content)
