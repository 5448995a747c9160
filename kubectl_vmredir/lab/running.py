"""Whether a lab runs in a folder: a lock on it, which ends with its process however that ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOCK: Final = "lock"


@contextmanager
def the_only_lab(folder: Path) -> Iterator[None]:
    """Be the lab of a folder, which is made if it is not there, for this user only.

    Raises:
        LabError: If another one is, or the folder cannot be used.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise LabError(f"cannot use {folder}: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise LabError(
                f"a lab runs in {folder} already",
                hint="Use that one with --lab, or start another one with --folder.",
            ) from exc
        yield
    finally:
        os.close(lock)


def is_running(folder: Path) -> bool:
    """Return whether a lab runs in a folder."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
