"""How a service of the agent stands, for people who do not care which one it is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kubectl_vmredir.agent.control import ServiceOverview
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.story import first_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.agent.access import AccessKey
    from kubectl_vmredir.agent.control import ServiceId
    from kubectl_vmredir.bootstrap import Connection
    from kubectl_vmredir.service.interface import RedirectionStatus, Trouble
    from kubectl_vmredir.service.kept import KeptWish


async def opened(service: ServiceId, connection: Connection) -> ServiceOverview:
    """Return how a service stands that is at work."""
    snapshot = await connection.service.snapshot()
    return ServiceOverview(
        service,
        connection.context,
        connection.cluster,
        connection.user,
        tuple(view.status for view in snapshot.redirections),
    )


def closed(
    service: ServiceId, key: AccessKey, wanted: Sequence[KeptWish], trouble: Trouble | None
) -> ServiceOverview:
    """Return how a service stands that is not open.

    Args:
        service: Names it.
        key: What leads to it.
        wanted: What is wanted of it.
        trouble: Why it is not open; None if it is just being opened.
    """
    options = key.options
    return ServiceOverview(
        service,
        options.context or "",
        options.server or "",
        options.user or "",
        tuple(_waiting(kept, trouble) for kept in wanted),
        trouble,
    )


def _waiting(kept: KeptWish, trouble: Trouble | None) -> RedirectionStatus:
    wish = kept.wish
    status = first_status(wish.id, str(wish.device), wish.description, wish.vmi, wish.slot)
    if trouble is None:
        return replace(status, reason="the agent is just beginning with it")
    return replace(status, state=RedirectionState.BLOCKED, reason=trouble.message, trouble=trouble)
