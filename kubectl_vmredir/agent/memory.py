"""How this process looks for garbage that refers to itself; all other goes by itself, at once.

While it looks nothing else happens, and how long that takes goes by what there is to look at: some
30 ms for each 100,000 objects. A list of 10,000 VMs is 250,000, and with Python's own thresholds
(700, 10, 10) everything is looked at several times while it grows.
"""

from __future__ import annotations

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
