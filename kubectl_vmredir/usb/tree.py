"""Small reads of sysfs, /proc and /dev under a root that a test can put elsewhere."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PLAIN: Final = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]{0,63}")
"""Text that may stand in a command line that we print: it needs no quotes, and is no option."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Where ``sys``, ``proc`` and ``dev`` are; paths below are relative to it.

    Files of a device that goes away while it is looked at are as good as empty.
    """

    root: Path = Path("/")

    def text(self, path: str) -> str:
        """Return what is in a file, untrusted. Only a line feed ends a line of it.

        Raises:
            OSError: If it cannot be read.
        """
        return (self.root / path).read_bytes().decode(errors="replace")

    def attribute(self, path: str) -> str:
        """Return what is in a file of sysfs, untrusted; empty if it cannot be read."""
        try:
            return self.text(path).strip()
        except OSError:
            return ""

    def listing(self, path: str) -> list[str]:
        """Return what is in a folder, in order of name.

        Raises:
            OSError: If it cannot be read.
        """
        return sorted(os.listdir(self.root / path))

    def names(self, path: str) -> list[str]:
        """Return what is in a folder, in order of name; nothing if it cannot be read."""
        try:
            return self.listing(path)
        except OSError:
            return []

    def real(self, path: str) -> Path:
        """Return the path without symbolic links."""
        return Path(os.path.realpath(self.root / path))

    def link_name(self, path: str) -> str:
        """Return the last part of what a symbolic link names; empty if there is none."""
        try:
            return Path(os.readlink(self.root / path)).name
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        """Return whether there is such a file or folder."""
        return (self.root / path).exists()

    def below(self, path: str, device: Path) -> list[str]:
        """Return what a class, for instance ``sys/class/net``, has below a device.

        Args:
            path: Folder of links to devices.
            device: As :meth:`real` returns it.
        """
        return [name for name in self.names(path) if device in self.real(f"{path}/{name}").parents]
