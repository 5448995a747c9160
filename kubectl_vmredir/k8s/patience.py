"""Which refusals to believe.

A kube-apiserver that has just started refuses its own users (403, also on ``/version``), knows no
custom resources (404) and no tokens (401), until it has read them all: 0.5 s on an idle machine,
measured on 1.36; more in a large cluster.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import ClusterUnreachable

if TYPE_CHECKING:
    from kubectl_vmredir.errors import ClusterError

GRACE_S: Final = 60.0


class Patience:
    """Gives the benefit of the doubt to a server that allowed the same thing before.

    Args:
        grace_s: For how long, in seconds.
    """

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._clock = asyncio.get_running_loop().time
        self._allowed = False
        self._refused_at: float | None = None

    def allowed(self) -> None:
        """Hear that it was allowed."""
        self._allowed = True
        self._refused_at = None

    def weigh(self, refusal: ClusterError) -> ClusterError:
        """Return the error to go by: the refusal, or one that says to try again."""
        if refusal.retryable or not self._allowed:
            return refusal
        now = self._clock()
        if self._refused_at is None:
            self._refused_at = now
        if now - self._refused_at >= self._grace_s:
            return refusal
        return ClusterUnreachable(
            f"{refusal}; as this was allowed before, the API server may be starting",
            hint=refusal.hint,
        )
