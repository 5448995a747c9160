"""How this process deals with memory: with garbage, and with what the C library keeps.

Garbage that refers to itself is looked for; all other goes by itself, at once. While it is looked
for nothing else happens, and how long that takes goes by what there is to look at: some
30 ms for each 100,000 objects. A list of 10,000 VMs is 250,000, and with Python's own thresholds
(700, 10, 10) everything is looked at several times while it grows.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

THRESHOLDS: Final = (5_000, 5, 40)
"""New objects that are looked at together; how often that is before the survivors are, and these
before everything is: once in a million objects that stay."""


def collect_seldom() -> None:
    """Look at what is here now never again, and at all of what comes less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


_M_MMAP_THRESHOLD: Final = -3  # malloc.h of glibc
_LARGE_BYTES: Final = 64 << 10


def return_large_buffers() -> None:
    """Have large buffers go back to the system as soon as they are freed.

    Each link and each usb-host has some of 256 KiB. At the first that is freed glibc would raise
    its threshold above that, and from then on keep them between others: 64 redirections that came
    and went for two minutes left 250 MiB, of which 10 were in use (mallopt(3), M_MMAP_THRESHOLD).
    Does nothing with a C library that has no such knob.
    """
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
