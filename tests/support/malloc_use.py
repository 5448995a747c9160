"""How much memory the C code of this process has in use: libraries, and the buffers of Python."""

from __future__ import annotations

import ctypes
from typing import Final

_FIELDS: Final = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd",
    "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
)  # fmt: skip


class _Mallinfo2(ctypes.Structure):
    """mallinfo(3), struct mallinfo2."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in _FIELDS)


def malloc_use() -> int:
    """Return the bytes that were allocated and not freed: other than RSS it has no holes.

    What Python keeps its small objects in is not among it. Needs glibc 2.33.
    """
    info = _mallinfo2()
    return int(info.uordblks) + int(info.hblkhd)


def mapped_bytes() -> int:
    """Return how many of them are in blocks of their own, outside of the heap."""
    return int(_mallinfo2().hblkhd)


def _mallinfo2() -> _Mallinfo2:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    found: _Mallinfo2 = mallinfo2()
    return found
