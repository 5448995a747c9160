"""``python -m tests.support.faults_agent DEVICES LOG``: an agent that can be hurt, and looked into.

It is what ``kubectl vmredir agent run`` is, but that all of its services share the virtual devices
of one folder, and that it logs all there is to log. It obeys orders, each a line of JSON on stdin.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from kubectl_vmredir.agent.access import Access
from kubectl_vmredir.agent.daemon import run_agent, the_only_agent
from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.bootstrap import Connection
from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ConfigOptions, load_config
from kubectl_vmredir.kubevirt.cluster import KubevirtCluster
from kubectl_vmredir.kubevirt.dial import ApiDialer
from kubectl_vmredir.lab.devices.shelf import lab_devices
from kubectl_vmredir.lab.devices.source import VirtualDevices
from kubectl_vmredir.service.service import Service
from tests.support.malloc_use import malloc_use
from tests.support.orders import orders, say

LATENCY_S = 0.05
"""Of each transfer: keeps 64 devices from asking for more than the machine has."""


@asynccontextmanager
async def open_service(access: Access, devices: VirtualDevices) -> AsyncIterator[Connection]:
    """Open a service with these devices, as bootstrap does it with those of the machine."""
    options = access.options
    assert options.kubeconfig is not None, "no other is used here"
    config = load_config(
        ConfigOptions(kubeconfig=Path(options.kubeconfig), context=options.context), access.environ
    )
    async with (
        KubeClient(config) as client,
        Service(devices, KubevirtCluster(client), ApiDialer(client)) as service,
    ):
        yield Connection(service, config.namespace, config.context, config.user.name)


async def obey(order: list[str], devices: VirtualDevices) -> object:
    """Carry an order out, and return what is to be answered."""
    match order:
        case ["kill-host", serial]:
            found = await devices.devices()
            return devices.kill_host(next(one for one in found if one.serial == serial))
        case ["census"]:
            gc.collect()
            return {
                "tasks": Counter(task.get_name() for task in asyncio.all_tasks()),
                "objects": Counter(type(item).__qualname__ for item in gc.get_objects()),
                "malloc_bytes": malloc_use(),
            }
        case _:
            raise ValueError(order)


async def obey_all(devices: VirtualDevices) -> None:
    """Obey until stdin ends."""
    async for order in orders():
        say(await obey(order, devices))


async def run(places: Places, folder: Path) -> None:
    """Be the agent until it is stopped."""

    async with VirtualDevices(lab_devices(folder), latency_s=LATENCY_S) as devices:

        def open_one(access: Access) -> AbstractAsyncContextManager[Connection]:
            return open_service(access, devices)

        async with asyncio.TaskGroup() as group:
            obeying = group.create_task(obey_all(devices), name="obey")
            await run_agent(places, open_one, idle_s=None, ready=lambda: say("ready"))
            obeying.cancel()


def main() -> None:
    """Be the agent of the environment's folders."""
    folder, log = map(Path, sys.argv[1:])
    logging.basicConfig(
        filename=log,
        level=logging.DEBUG,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
    )
    places = Places.of_user()
    with the_only_agent(places):
        asyncio.run(run(places, folder))


if __name__ == "__main__":
    main()
