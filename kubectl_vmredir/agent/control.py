"""What the agent can be asked for besides redirections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from kubectl_vmredir.agent.access import (
    Access,  # noqa: TC001 - named by annotations that are read at run time
)

if TYPE_CHECKING:
    from kubectl_vmredir.service.interface import ExitRisk


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


class AgentControl(Protocol):
    """Commands for the agent itself."""

    async def open(self, access: Access) -> str:
        """Choose the service that all calls of this client are for.

        Returns:
            The namespace that is meant where none is named.

        Raises:
            VmRedirError: If it cannot be opened, or one has been chosen before.
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
