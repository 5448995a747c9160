"""Whose credentials we use: a redirection is kept up by the user who bound it, and nobody else."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import ClusterError, ClusterUnreachable
from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.bulkhead import contained

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.model import Identity
    from kubectl_vmredir.service.ports import Cluster

logger = logging.getLogger(__name__)

IDENTITY_TIMEOUT_S: Final = 30.0


class IdentityCheck:
    """Asks the cluster who we are, off the critical path.

    Attributes:
        current: Who we were when last asked; None before.

    Args:
        cluster: Knows who we are.
        changed: Called when :attr:`current` has changed.
    """

    def __init__(self, cluster: Cluster, changed: Callable[[], None]) -> None:
        self.current: Identity | None = None
        self._cluster = cluster
        self._changed = changed
        self._bell = Bell()

    async def ask(self) -> Identity:
        """Ask now.

        Raises:
            ClusterError: If the cluster does not say.
        """
        try:
            async with asyncio.timeout(IDENTITY_TIMEOUT_S):
                identity = await self._cluster.identity()
        except TimeoutError as exc:
            raise ClusterUnreachable("the cluster does not say who we are") from exc
        changed = identity != self.current
        self.current = identity
        if changed:
            self._changed()
        return identity

    def suggest(self) -> None:
        """Have it asked soon: the credentials may have changed."""
        self._bell.ring()

    async def keep_asking(self) -> None:
        """Ask whenever suggested; runs until cancelled."""
        while True:
            await self._bell.wait()
            outcome = await contained(self._ask_in_peace(), name="ask-identity")
            if outcome is not None:
                logger.error("the check of the identity has a bug", exc_info=outcome)

    async def _ask_in_peace(self) -> None:
        try:
            await self.ask()
        except ClusterError as error:
            # Asked again at the next reconnect; who may not ask may not dial either.
            logger.info("cannot check the identity: %s", error)


def same_user(bound_by: Identity, now: Identity) -> bool:
    """Return whether two identities are of one user, as far as they can be compared.

    A name that the API server said and one that the kubeconfig says cannot.
    """
    if bound_by.reviewed != now.reviewed:
        return True
    return (bound_by.username, bound_by.uid) == (now.username, now.uid)
