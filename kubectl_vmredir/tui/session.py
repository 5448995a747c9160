"""What the user interface is opened with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - a field of a dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubectl_vmredir.model import Check
    from kubectl_vmredir.service.interface import RedirectionService


@dataclass(frozen=True, slots=True)
class Session:
    """A service, and for whom it works.

    Attributes:
        service: The service.
        namespace: Namespace to begin with.
        context: Name of the kubeconfig's context.
        user: Name of the user, as far as the kubeconfig knows it.
        flags: Flags that a command line needs to mean the same cluster and devices; None if
            none can mean them.
        lasting: Whether an agent has the redirections, and keeps them when the session is left.
        hint: What to try first, for who has nothing redirected yet; empty for nothing.
    """

    service: RedirectionService
    namespace: str
    context: str = ""
    user: str = ""
    flags: tuple[str, ...] | None = ()
    lasting: bool = False
    hint: str = ""


SessionOpener = Callable[[str | None], AbstractAsyncContextManager[Session]]
"""Opens a session with a context of the kubeconfig, or the user's own (None); leaving the context
manager ends it.

Raises:
    VmRedirError: If there is no cluster to open it with, or no agent.
"""


@dataclass(frozen=True, slots=True)
class Entrance:
    """The way to sessions, and what there is besides them.

    Attributes:
        open: Opens a session.
        contexts: Returns the names of the contexts that there are; none if it is not known. Blocks.
        examine: Looks at what this machine needs to redirect USB devices. Blocks.
        log: The log of whoever has the redirections; None if there is none.
    """

    open: SessionOpener
    contexts: Callable[[], Sequence[str]] = tuple
    examine: Callable[[], Sequence[Check]] = tuple
    log: Path | None = None
