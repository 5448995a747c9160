"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Final

FIRST_DELAY_S: Final = 0.2
LONGEST_DELAY_S: Final = 15.0
JITTER: Final = 0.25

BackoffFactory = Callable[[], Iterator[float]]
"""Returns a fresh series of delays, in seconds."""


def exponential_backoff(longest_s: float = LONGEST_DELAY_S) -> Iterator[float]:
    """Yield delays in seconds: 0.2, 0.4, ... up to the longest, each with up to 25 % of jitter."""
    delay_s = FIRST_DELAY_S
    while True:
        yield delay_s * random.uniform(1.0, 1.0 + JITTER)  # noqa: S311 - jitter, not a secret
        delay_s = min(delay_s * 2, longest_s)
