"""The parts of a lab that know a URL and a kubeconfig, as coroutines that run until cancelled.

They run in the process of the lab, or each in one of its own (``python -m kubectl_vmredir.lab``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ConfigOptions, load_config
from kubectl_vmredir.lab.api.roles import CONTROLLER, HANDLER
from kubectl_vmredir.lab.controllers.manager import Controllers
from kubectl_vmredir.lab.nodes.node import Node

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from kubectl_vmredir.lab.api.server import ApiServer
    from kubectl_vmredir.lab.clock import Clock
    from kubectl_vmredir.lab.guests.domain import Hypervisor
    from kubectl_vmredir.lab.nodes.means import NodeOptions


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the API server is, and who we are to it.

    Attributes:
        kubeconfig: The only one that is read: never the user's.
        server: URL of the API server; None for that of the kubeconfig.
        context: Context of the kubeconfig; None for the current one.
    """

    kubeconfig: Path
    server: str | None = None
    context: str | None = None

    def client(self) -> KubeClient:
        """Return a client for it.

        Raises:
            KubeconfigError: If the kubeconfig is not as it should be.
        """
        options = ConfigOptions(
            kubeconfig=self.kubeconfig, server=self.server, context=self.context
        )
        return KubeClient(load_config(options, {}))


@dataclass(frozen=True, slots=True)
class Kubeconfigs:
    """The kubeconfigs of a lab, in one folder.

    Attributes:
        people: Contexts ``admin``, ``alice``, ``viewer``, ``nobody`` and others of the server.
        controllers: Of the controllers.
        handler: Of all nodes.
    """

    people: Path
    controllers: Path
    handler: Path

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """Return where they are."""
        return cls(
            folder / "kubeconfig", folder / "controllers.kubeconfig", folder / "handler.kubeconfig"
        )

    def write(self, server: ApiServer) -> None:
        """Write them all, each readable by its owner only."""
        server.write_kubeconfig(self.people)
        server.write_account_kubeconfig(self.controllers, CONTROLLER)
        server.write_account_kubeconfig(self.handler, HANDLER)


async def run_controllers(endpoint: Endpoint, *, clock: Clock | None = None) -> None:
    """Run all controllers."""
    async with endpoint.client() as client:
        await Controllers(client, clock=clock).run()


async def run_node(
    name: str,
    folder: Path,
    endpoint: Endpoint,
    hypervisor: Callable[[], AbstractAsyncContextManager[Hypervisor]],
    *,
    options: NodeOptions | None = None,
    clock: Clock | None = None,
) -> None:
    """Run one node, with the guests that ``hypervisor`` makes."""
    async with endpoint.client() as client, hypervisor() as guests:
        await Node(name, folder, client, guests, options=options, clock=clock).run()
