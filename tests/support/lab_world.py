"""``python -m tests.support.lab_world FOLDER``: the lab as a world of the tests; see worlds.py."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cluster import CONTROLLERS, Lab
from kubectl_vmredir.lab.components import Kubeconfigs
from kubectl_vmredir.lab.faults import Fault
from kubectl_vmredir.lab.objects import Collection
from tests.support.orders import orders, say
from tests.support.worlds import SPARE_NODE, Part

_NODES = 3


async def obey(lab: Lab, order: list[str]) -> None:
    """Carry an order out."""
    assert lab.api is not None
    match order:
        case ["kill", Part.API_SERVER]:
            await lab.api.stop()
        case ["start", Part.API_SERVER]:
            await lab.api.start()
        case ["kill", Part.VIRT_API]:
            lab.api.stop_virt_api()
        case ["start", Part.VIRT_API]:
            lab.api.start_virt_api()
        case ["freeze", Part.CONTROLLER]:
            await lab.kill(CONTROLLERS)
        case ["thaw", Part.CONTROLLER]:
            await lab.start_controllers()
        case ["kill", handler]:
            await lab.faults.make(Fault.HANDLER_DOWN, node=_node(handler))
        case ["start", handler]:
            await lab.faults.end(Fault.HANDLER_DOWN, node=_node(handler))
        case ["freeze", handler]:
            await lab.faults.make(Fault.HANG, node=_node(handler))
        case ["thaw", handler]:
            await lab.faults.end(Fault.HANG, node=_node(handler))
        case ["copying"]:
            pass  # a target may die at any time
        case ["crash", namespace, pod, _]:
            change = {"metadata": {"annotations": {objects.LAB_CRASH: "now"}}}
            await lab.client.patch(f"{Collection.PODS.of(namespace)}/{pod}", change)
        case _:
            raise ValueError(order)


def _node(handler: str) -> str:
    return handler.removeprefix("handler-")


async def run(folder: Path) -> None:
    """Run a lab until stdin ends."""
    async with Lab(folder, nodes=_NODES) as lab:
        await lab.faults.cordon(SPARE_NODE)
        say(
            {
                "kubeconfig": str(lab.kubeconfig),
                "component_kubeconfig": str(
                    Kubeconfigs.in_folder(lab.kubeconfig.parent).controllers
                ),
                "run_folder": f"{folder}/{{node}}/pods/{{pod}}/run/kubevirt-private/{{vmi}}",
            }
        )
        async for order in orders():
            await obey(lab, order)
            say({})


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
