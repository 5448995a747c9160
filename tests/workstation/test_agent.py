"""A stick in a VM, kept there by the agent of an ordinary user of the workstation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.workstation.reading import READ, read_on_and_on
from tests.support.workstation.target import VM, Target
from tests.support.workstation.vm import WorkstationVm

pytestmark = [pytest.mark.workstation, pytest.mark.asyncio(loop_scope="session")]

STICK_BYTES = 1 << 20
SERIAL = "FLASH001"
STICK = f"46f4:0001:{SERIAL}"
DISK = f"/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_{SERIAL}-0:0"
AGENT = "kubectl_vmredir agent run"


async def vmredir(workstation: WorkstationVm, *arguments: str) -> str:
    """Run a command to its end, which must be a good one; return its output."""
    async with workstation.running(*arguments) as command:
        return (await command.end()).check()


@pytest_asyncio.fixture(loop_scope="session")
async def stick(workstation: WorkstationVm, target: Target, tmp_path: Path) -> AsyncIterator[Path]:
    """Give the file of a stick that the agent keeps in the VM, and that comes back at the end."""
    file = tmp_path / SERIAL
    file.write_bytes(os.urandom(STICK_BYTES))
    await workstation.plug_stick(SERIAL, file)
    await target.shell("dmesg --clear")
    await vmredir(workstation, "bind", STICK, VM.name, "-n", VM.namespace)
    await target.appears(SERIAL)
    yield file
    await vmredir(workstation, "unbind", STICK)
    await workstation.root("udevadm", "wait", "--timeout=10", DISK)
    await vmredir(workstation, "agent", "stop")


async def times_plugged_in(target: Target) -> int:
    return int(await target.shell(f"dmesg | grep -c 'SerialNumber: {SERIAL}'"))


async def test_stick_stays_in_the_vm_when_the_command_has_ended(
    workstation: WorkstationVm, target: Target, stick: Path
) -> None:
    status = await vmredir(workstation, "status")

    assert "connected" in status
    assert (await target.shell(READ, DISK)).strip() == sha256(stick)


async def test_stick_is_back_here_when_the_agent_is_killed_and_in_the_vm_with_the_next_command(
    workstation: WorkstationVm, target: Target, stick: Path
) -> None:
    async with read_on_and_on(target, DISK):
        await workstation.root("pkill", "-KILL", "-f", AGENT)
        await workstation.root("udevadm", "wait", "--timeout=5", DISK)
        here = await workstation.root("sha256sum", DISK)
        await vmredir(workstation, "status")

        await target.appears(SERIAL)
    assert here.split()[0] == sha256(stick)
    assert (await target.shell(READ, DISK)).strip() == sha256(stick)
    assert await times_plugged_in(target) == 2


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
