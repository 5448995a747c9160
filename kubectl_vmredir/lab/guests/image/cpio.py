"""Writes an initramfs: a cpio archive in the "newc" format, zipped.

Source: Documentation/driver-api/early-userspace/buffer-format.rst of the Linux kernel.
"""

from __future__ import annotations

import gzip
import stat
from typing import Final

_MAGIC: Final = b"070701"
_TRAILER: Final = "TRAILER!!!"


class Archive:
    """An initramfs in the making. The same content gives the same bytes."""

    def __init__(self) -> None:
        self._entries = bytearray()
        self._count = 0

    def add_folder(self, path: str) -> None:
        """Add a folder; its parents must be there already."""
        self._add(path, stat.S_IFDIR | 0o755, b"")

    def add_file(self, path: str, content: bytes, *, executable: bool = False) -> None:
        """Add a file; its folder must be there already."""
        self._add(path, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def compressed(self) -> bytes:
        """Return the archive as it is now, zipped."""
        archive = self._entries + _entry(0, _TRAILER, 0, b"")
        return gzip.compress(archive, compresslevel=6, mtime=0)

    def _add(self, path: str, mode: int, content: bytes) -> None:
        self._count += 1
        self._entries += _entry(self._count, path, mode, content)


def _entry(inode: int, path: str, mode: int, content: bytes) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    # ino mode uid gid nlink mtime filesize maj min rmaj rmin namesize check
    fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
    header = _MAGIC + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
