"""What the user interface is opened with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubectl_vmredir.service.interface import RedirectionService


@dataclass(frozen=True, slots=True)
class Session:
    """A service, and for whom it works.

    Attributes:
        service: The service.
        namespace: Namespace to begin with.
        context: Name of the kubeconfig's context.
        user: Name of the user, as far as the kubeconfig knows it.
        flags: Flags that a command line needs to mean the same cluster and devices.
    """

    service: RedirectionService
    namespace: str
    context: str = ""
    user: str = ""
    flags: tuple[str, ...] = ()


SessionOpener = Callable[[], AbstractAsyncContextManager[Session]]
"""Opens a session; leaving the context ends it.

Raises:
    VmRedirError: If there is no cluster to open it with.
"""
