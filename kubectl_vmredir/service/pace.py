"""When a link may be dialed again. Pure: time is an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kubectl_vmredir.backoff import BackoffFactory

STABLE_AFTER_S: Final = 30.0
"""A link that lasted this long takes back what those before it have cost."""


class DialPace:
    """Puts the next dial off, the longer the more often one came to nothing.

    Dials that fail and links that do not last are counted apart: how long a server was away says
    nothing of the link that was opened when it came back.

    Attributes:
        not_before: When the next dial may be.

    Args:
        backoff: Returns a fresh series of delays.
    """

    def __init__(self, backoff: BackoffFactory) -> None:
        self.not_before = 0.0
        self._backoff = backoff
        self._after_failures = backoff()
        self._after_links = backoff()
        self._failed = False

    def failed(self, now: float) -> None:
        """Take in a dial that failed, or could not even be tried."""
        self.not_before = now + next(self._after_failures)
        self._failed = True

    def ended(self, now: float, lasted_s: float | None) -> None:
        """Take in a link that ended.

        Args:
            now: When it is.
            lasted_s: How long the VM had the device over it; None if it never had.
        """
        if lasted_s is None:
            self.failed(now)
            return
        self._after_failures = self._backoff()
        if lasted_s > STABLE_AFTER_S:
            self._after_links = self._backoff()
        self.not_before = now + next(self._after_links)
        self._failed = False

    def hurry(self, now: float) -> None:
        """Let the next dial be now: what was in its way is seen to be gone."""
        self.not_before = now

    def encourage(self, now: float) -> None:
        """Let the next dial be now if the last one failed: another one to the same VM did not.

        A link that did not last hurries nobody's: two of them would chase each other.
        """
        if self._failed:
            self.hurry(now)

    def start_afresh(self, now: float) -> None:
        """Forget what failed before: it says nothing of what comes now."""
        self._after_failures, self._after_links = self._backoff(), self._backoff()
        self.hurry(now)
