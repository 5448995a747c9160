"""How long to wait before trying again."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST_S: Final = 0.2
_LONGEST_S: Final = 5.0


def exponential_backoff() -> Iterator[float]:
    """Yield delays in seconds: 0.2, 0.4, ... up to 5, each with up to 25 % of jitter."""
    delay_s = _FIRST_S
    while True:
        yield delay_s * random.uniform(1.0, 1.25)  # noqa: S311 - jitter, not a secret
        delay_s = min(delay_s * 2, _LONGEST_S)
