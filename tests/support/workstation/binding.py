"""Puts a device of the workstation into a slot of the target, with ``kubectl vmredir bind``."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import ExitCode
from tests.support.workstation.target import SLOTS, VM

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from tests.support.workstation.guest_agent import Running
    from tests.support.workstation.target import Target
    from tests.support.workstation.vm import WorkstationVm

CONNECTED: Final = " connected: "
"""Of the story that the command tells."""


def binding(
    workstation: WorkstationVm, device: str, *flags: str, slot: str = SLOTS[0]
) -> AbstractAsyncContextManager[Running]:
    """Start to bind a device, as the ordinary user; kills the command at the end."""
    target = f"{VM.name}/{slot}"
    return workstation.running("bind", device, target, "-n", VM.namespace, "--foreground", *flags)


@asynccontextmanager
async def bound(
    workstation: WorkstationVm,
    target: Target,
    device: str,
    serial: str,
    *flags: str,
    slot: str = SLOTS[0],
) -> AsyncIterator[Running]:
    """Bind a device until the context ends, then unbind it with ctrl-c.

    Args:
        workstation: Where it is.
        target: The VM.
        device: What the user calls it.
        serial: Its serial number: waits until the VM has the device.
        flags: More for the command.
        slot: Of the VM.
    """
    async with binding(workstation, device, *flags, slot=slot) as command:
        await command.says(CONNECTED)
        await target.appears(serial)
        yield command
        command.signal(signal.SIGINT)
        assert (await command.end()).status == ExitCode.INTERRUPTED
