"""How fast a redirection moves bytes, second by second; no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.service.interface import Numbers

SECONDS: Final = 60
"""So much of the past is kept."""


@dataclass(slots=True)
class _Second:
    """Bytes that moved in one second."""

    number: int
    up: int = 0
    down: int = 0


class Rates:
    """Turns counters that only grow into bytes per second."""

    def __init__(self) -> None:
        self._seconds: deque[_Second] = deque(maxlen=SECONDS)
        self._last: Numbers | None = None

    def sample(self, numbers: Numbers, now: float) -> None:
        """Note the counters as they are now; the first ones are where it begins.

        Args:
            numbers: The counters.
            now: Seconds since the epoch.
        """
        last, self._last = self._last, numbers
        if last is None:
            return
        number = int(now)
        if not self._seconds or self._seconds[-1].number < number:
            self._seconds.append(_Second(number))
        second = self._seconds[-1]
        second.up += max(numbers.bytes_up - last.bytes_up, 0)
        second.down += max(numbers.bytes_down - last.bytes_down, 0)

    def up(self, now: float) -> Sequence[int]:
        """Return bytes per second from device to VM, of the last :data:`SECONDS` up to now."""
        by_second = {second.number: second.up for second in self._seconds}
        return [by_second.get(number, 0) for number in _window(now)]

    def down(self, now: float) -> Sequence[int]:
        """Return the same from VM to device."""
        by_second = {second.number: second.down for second in self._seconds}
        return [by_second.get(number, 0) for number in _window(now)]

    def moves(self, now: float) -> bool:
        """Return whether there is anything to see, which is another picture a second later."""
        return any(self.up(now)) or any(self.down(now))


def _window(now: float) -> range:
    return range(int(now) - SECONDS + 1, int(now) + 1)
