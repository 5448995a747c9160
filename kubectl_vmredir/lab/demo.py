"""The lab of the demo: three VMs on three nodes, and virtual devices to plug into them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

from kubectl_vmredir.errors import VmRedirError
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.devices.shelf import lab_devices
from kubectl_vmredir.lab.devices.source import VirtualDevices
from kubectl_vmredir.model import VmiRef

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from kubectl_vmredir.lab.backends import Backend

logger = logging.getLogger(__name__)

NODES: Final = 3
VMS: Final = {
    VmiRef("demo", "fedora"): ("flash", "token"),
    VmiRef("demo", "plc"): ("serial",),
    VmiRef("demo", "win11"): ("smartcard",),
}
"""VMs of the demo, and the names of their slots."""
CHAOS_S: Final = 30.0
"""So often a VM moves, where the user asked for chaos."""


class DemoLab:
    """A lab that starts by itself when the context is entered; nobody waits for it meanwhile.

    Attributes:
        lab: The lab; to be used after :meth:`is_up`.
        devices: What can be plugged in.

    Args:
        folder: Of the lab.
        backend: What its guests are.
        chaos_s: How often a VM is moved, one after the other; None for never.
    """

    def __init__(self, folder: Path, *, backend: Backend, chaos_s: float | None = None) -> None:
        self.lab = Lab(folder / "lab", backend=backend, nodes=NODES)
        self.devices = VirtualDevices(lab_devices(folder / "devices"))
        self._chaos_s = chaos_s
        self._stack = AsyncExitStack()
        self._settled = asyncio.Event()
        self._over = asyncio.Event()
        self._trouble: VmRedirError | None = None

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.devices)
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(self._run(), name="demo-lab")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        await self._stack.__aexit__(None, None, None)

    async def is_up(self) -> None:
        """Return when all VMs run.

        Raises:
            VmRedirError: If they never will.
        """
        await self._settled.wait()
        if self._trouble is not None:
            raise self._trouble

    async def _run(self) -> None:
        try:
            async with self.lab, asyncio.TaskGroup() as group:
                living = group.create_task(self._live(), name="demo-vms")
                await self._over.wait()
                living.cancel()
        except* VmRedirError as errors:
            self._trouble = _first(errors)
            self._settled.set()

    async def _live(self) -> None:
        for ref, slots in VMS.items():
            if self.lab.vmi(ref) is None:
                await self.lab.create_vm(ref, slots=slots)
        for ref in VMS:
            await self.lab.wait_running(ref)
        self._settled.set()
        if self._chaos_s is None:
            return
        for ref in itertools.cycle(VMS):
            await asyncio.sleep(self._chaos_s)
            try:
                await (await self.lab.migrate(ref)).finished()
            except VmRedirError as error:
                logger.info("%s does not move: %s", ref, error)


def _first(group: BaseExceptionGroup[VmRedirError]) -> VmRedirError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
