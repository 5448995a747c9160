"""What the agent can be asked for besides redirections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NewType, Protocol

from kubectl_vmredir.agent.access import (
    Access,  # noqa: TC001 - named by annotations that are read at run time
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from kubectl_vmredir.model import RedirectionId
    from kubectl_vmredir.service.interface import ExitRisk, RedirectionStatus, Trouble

ServiceId = NewType("ServiceId", str)
"""Names a service for as long as the agent runs."""


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """How the agent stands.

    Attributes:
        pid: Its process id.
        version: Of its program.
        started: When it started, in seconds since the epoch.
        clients: How many are connected, whoever asks included.
        services: How many clusters, or users of one, it is at work with.
        redirections: How many it keeps up.
        closing: What its end waits for; None if it was not asked to end.
    """

    pid: int
    version: str
    started: float
    clients: int
    services: int
    redirections: int
    closing: tuple[ExitRisk, ...] | None = None


@dataclass(frozen=True, slots=True)
class ServiceOverview:
    """One cluster, or one user of it, that the agent is at work with.

    Attributes:
        id: Names it.
        context: Name of the kubeconfig's context; empty if there is none.
        cluster: Address of its API server; empty while it cannot be known.
        user: Name of the user, as far as the kubeconfig knows it.
        redirections: Oldest first. Without a service nothing is done for them: they are blocked.
        trouble: Why there is no service; None if there is one.
    """

    id: ServiceId
    context: str
    cluster: str
    user: str
    redirections: tuple[RedirectionStatus, ...]
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """All that the agent is at work with, the oldest first."""

    services: tuple[ServiceOverview, ...]


class AgentControl(Protocol):
    """Commands for the agent itself."""

    async def open(self, access: Access) -> str:
        """Choose the service that all calls of this client are for.

        Returns:
            The namespace that is meant where none is named.

        Raises:
            VmRedirError: If it cannot be opened, or one has been chosen before.
        """

    async def adopt(self, service: ServiceId) -> None:
        """Choose a service that is in the overview, as :meth:`open` does.

        The variables that credential plugins see stay those of who opened it.

        Raises:
            VmRedirError: If there is none of that id, it is in trouble, or one has been chosen.
        """

    async def overview(self) -> Overview:
        """Return all that the agent is at work with."""

    def watch_overview(self) -> AbstractAsyncContextManager[AsyncIterator[Overview]]:
        """Hear of all that the agent is at work with: now, and whenever that changes, until left.

        What a slow listener has missed is told as one.
        """

    async def forget(self, service: ServiceId, redirection_id: RedirectionId) -> None:
        """End a redirection whose service may be in trouble: then it is no longer wanted.

        Raises:
            RedirectionNotFound: If there is none of that id.
            AgentError: If it cannot be written down.
        """

    async def status(self) -> AgentStatus:
        """Return how the agent stands."""

    async def stop(self, *, force: bool = False) -> tuple[ExitRisk, ...]:
        """End the agent. What the user wants to be bound stays wanted.

        Without ``force`` it does not end as long as that could harm a VM, but ends nothing else
        either: it goes on waiting, and ends as soon as it can.

        Returns:
            What it would break, or has broken, to end now; empty if nothing.
        """
