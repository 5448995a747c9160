"""What a stick keeps its blocks on: memory, or a file that one process at a time holds."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Protocol

from kubectl_vmredir.errors import UsbError

if TYPE_CHECKING:
    from pathlib import Path


class Medium(Protocol):
    """A row of bytes of fixed size."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def read_only(self) -> bool:
        """Whether it is write-protected."""

    def acquire(self) -> str | None:
        """Open it for us alone; return None, or who has it.

        Raises:
            UsbError: If it cannot be opened.
        """

    def release(self) -> None:
        """Undo :meth:`acquire`; safe to call again."""

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes: fewer where there are no more.

        Raises:
            OSError: If it cannot be read.
        """

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes, which lie within its size.

        Raises:
            OSError: If it cannot be written.
        """


class Memory:
    """A medium in memory, gone with the process.

    Args:
        image: What is on it; copied.
        read_only: Whether it is write-protected.
    """

    def __init__(self, image: bytes, *, read_only: bool = False) -> None:
        self._image = bytearray(image)
        self.read_only = read_only

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self._image)

    @property
    def image(self) -> bytes:
        """A copy of what is on it now."""
        return bytes(self._image)

    def acquire(self) -> str | None:
        """Nobody else can have it."""
        return None

    def release(self) -> None:
        """Nothing to do."""

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes: fewer where there are no more."""
        return bytes(memoryview(self._image)[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes."""
        self._image[offset : offset + len(data)] = data


class ImageFile:
    """A medium in a file, locked while it is in use.

    The lock is flock(2) on ``<image>.lock`` beside it, which also names the holder's process.
    Reads and writes go to the page cache, on the caller's thread: images of the lab are small.

    Args:
        path: The image; it must exist when it is acquired.
        read_only: Whether the medium is write-protected.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._lock_path = path.with_name(f"{path.name}.lock")
        self._lock: int | None = None
        self._file: int | None = None
        self._size = 0
        self.read_only = read_only

    @property
    def size(self) -> int:
        """In bytes, as it was when it was acquired."""
        return self._size

    def acquire(self) -> str | None:
        """Lock and open the file; return None, or the process that has it.

        Raises:
            UsbError: If there is no such file, or we may not open it.
        """
        assert self._lock is None, "acquired twice"
        try:
            self._lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(self._lock, 20).decode(errors="replace").strip()
                self.release()
                return f"process {holder}"
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
            mode = os.O_RDONLY if self.read_only else os.O_RDWR
            self._file = os.open(self._path, mode | os.O_CLOEXEC)
            self._size = os.fstat(self._file).st_size
        except OSError as exc:
            self.release()
            raise UsbError(f"cannot use {self._path} as a medium: {exc.strerror}") from exc
        return None

    def release(self) -> None:
        """Close and unlock the file."""
        for descriptor in (self._file, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._file = self._lock = None

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes: fewer if somebody cut the file short.

        Raises:
            OSError: If the file cannot be read.
        """
        assert self._file is not None, "not acquired"
        return os.pread(self._file, length, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes.

        Raises:
            OSError: If the file cannot be written.
        """
        assert self._file is not None, "not acquired"
        written = 0
        while written < len(data):
            written += os.pwrite(self._file, data[written:], offset + written)
