"""Labs for tests: the real API server, controllers and nodes, and guests that only echo."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.model import VmiRef
from tests.support.guests import EchoHypervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kubectl_vmredir.lab.clock import Clock
    from kubectl_vmredir.lab.nodes.means import NodeOptions

DESK: Final = VmiRef("demo", "desk")


@asynccontextmanager
async def echo_lab(
    folder: Path,
    *,
    options: NodeOptions | None = None,
    clock: Clock | None = None,
    vm: VmiRef | None = DESK,
) -> AsyncIterator[Lab]:
    """Give a lab of two nodes, in which ``vm`` runs on node1."""
    hypervisor = EchoHypervisor()
    async with (
        hypervisor,
        Lab(folder, guests=lambda: nullcontext(hypervisor), options=options, clock=clock) as lab,
    ):
        if vm is not None:
            await lab.create_vm(vm, slots=("flash",))
            await lab.wait_running(vm)
        yield lab
