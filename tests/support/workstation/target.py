"""The VM of the lab that gets the devices: it moves between nodes, and runs commands on any."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.guests.qemu import QemuHypervisor
from kubectl_vmredir.model import VmiRef
from tests.support.workstation import guest_agent
from tests.support.workstation.guest_agent import GuestAgent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from types import TracebackType

    from kubectl_vmredir.lab.guests.image.build import GuestImage

VM: Final = VmiRef("demo", "target")
SLOTS: Final = ("first", "second", "third", "fourth")
_MEMORY_MIB: Final = 256

_APPEAR: Final = """
for _ in {1..600}; do
    if grep -lxsF -e "$1" /sys/bus/usb/devices/*/serial; then
        udevadm settle
        exit 0
    fi
    sleep 0.05
done
dmesg | tail -20
exit 1
"""


@asynccontextmanager
async def qemu_lab(image: GuestImage, folder: Path) -> AsyncIterator[Lab]:
    """Give a lab of two nodes whose guests have the image of the workstation."""
    async with Lab(folder, guests=lambda: QemuHypervisor(image, extra=guest_agent.DEVICES)) as lab:
        yield lab


class Target:
    """A VM of the lab; an async context manager.

    Args:
        lab: Whose VM it is.

    Attributes:
        agent: Runs commands in it; another one after each migration.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._connection = AsyncExitStack()
        self.agent: GuestAgent

    async def __aenter__(self) -> Self:
        await self._lab.create_vm(VM, slots=SLOTS, memory_mib=_MEMORY_MIB)
        await self._lab.wait_running(VM)
        await self._connect()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connection.aclose()
        await self._lab.delete_vm(VM)

    async def run(self, *argv: str) -> str:
        """Run a command as root, which must go well; return its output."""
        return (await self.agent.run(*argv, user="root")).check()

    async def shell(self, script: str, *arguments: str) -> str:
        """Run a script of bash as root, which must go well; return its output."""
        return await self.run("bash", "-c", script, "bash", *arguments)

    async def appears(self, serial: str) -> None:
        """Wait until a device with this serial number is plugged in, and has its drivers."""
        await self.shell(_APPEAR, serial)

    async def migrate(self) -> None:
        """Move to the other node; returns when the VM runs there and nodeName says so."""
        before = self._node()
        # The connection stays with the source; what is written meanwhile waits in the VM.
        await self._connection.aclose()
        move = await self._lab.migrate(VM)
        assert await move.finished(), f"it did not move: {self._lab.vmi(VM)}"
        await self._lab.wait_vmi(VM, lambda vmi: objects.status(vmi)["nodeName"] != before)
        await self._connect()

    def _node(self) -> str:
        vmi = self._lab.vmi(VM)
        assert vmi is not None
        return str(objects.status(vmi)["nodeName"])

    async def _connect(self) -> None:
        self._connection = AsyncExitStack()
        run_folder = self._lab.console_log(VM)[-1].parent
        self.agent = await self._connection.enter_async_context(GuestAgent(run_folder))
