"""What takes a minute to be seen: begun with a world, asked for at the end of its tests."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab.objects import HOSTNAME
from tests.support.lab_api import UPGRADE
from tests.support.vms import cordon, vm
from tests.support.worlds import SPARE_NODE, Part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    import httpx

    from tests.support.worlds import World

LIMIT_S: Final = 120.0


@dataclass(frozen=True)
class LateAnswer:
    """What was answered in the end, and after how many seconds."""

    answer: httpx.Response
    after_s: float


@contextmanager
def dial_of_hung_node(world: World) -> Iterator[Future[LateAnswer]]:
    """Dial a VM on the spare node, whose virt-handler is stopped, and give what will be answered.

    Other tests may begin when the context has; it ends when the answer is there.
    """
    asleep = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        answered = pool.submit(asyncio.run, _dial(world, asleep))
        while not asleep.wait(0.1):
            if answered.done():
                answered.result()
        yield answered
        answered.result(LIMIT_S)


async def _dial(world: World, asleep: threading.Event) -> LateAnswer:
    handler = Part.handler(SPARE_NODE)
    async with world.client() as admin:
        await cordon(admin, SPARE_NODE, unschedulable=False)
        async with vm(world, nodeSelector={HOSTNAME: SPARE_NODE}) as desk:
            await desk.running()
            await cordon(admin, SPARE_NODE)
            await world.freeze(handler)
            try:
                asleep.set()
                async with world.http("alice", limit_s=LIMIT_S) as http:
                    began = time.monotonic()
                    headers = dict(line.split(": ", 1) for line in UPGRADE)
                    answer = await http.get(desk.stream(), headers=headers)
                    return LateAnswer(answer, time.monotonic() - began)
            finally:
                await world.thaw(handler)
