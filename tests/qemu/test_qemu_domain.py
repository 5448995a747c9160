"""Domains of real QEMU: how they start, end and fail."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubectl_vmredir.errors import LabError, MigrationFailed
from kubectl_vmredir.lab.guests import sockets
from kubectl_vmredir.lab.guests.domain import DomainSpec, MigrationPhase
from kubectl_vmredir.lab.guests.image import build
from kubectl_vmredir.lab.guests.image.build import GuestImage
from kubectl_vmredir.lab.guests.qemu import QemuHypervisor
from kubectl_vmredir.lab.guests.report import Gap
from kubectl_vmredir.model import VmiRef, VmiUid
from tests.support.scripted_usb_host import TIMEOUT_S
from tests.support.twins import go_on, is_pass, stage

pytestmark = pytest.mark.qemu

COLD_MOVES = 3

ORPHAN = """
import asyncio, sys
from pathlib import Path
from kubectl_vmredir.lab.guests.domain import DomainSpec
from kubectl_vmredir.lab.guests.image import build
from kubectl_vmredir.lab.guests.qemu import QemuHypervisor
from kubectl_vmredir.model import VmiRef, VmiUid

async def main():
    async with QemuHypervisor(build.find(build.default_folder())) as hypervisor:
        spec = DomainSpec(VmiRef("demo", "orphan"), VmiUid("orphan"), Path(sys.argv[1]))
        domain = await hypervisor.boot(spec)
        print(domain.pid, flush=True)
        await domain.wait_ended()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def image() -> GuestImage:
    image = build.find(build.default_folder())
    assert image is not None, "no guest image; build it with: make guest"
    return image


@pytest.fixture
async def qemu(image: GuestImage) -> AsyncIterator[QemuHypervisor]:
    async with QemuHypervisor(image) as hypervisor:
        yield hypervisor


def spec(folder: Path, bandwidth: int | None = None) -> DomainSpec:
    folder.mkdir()
    return DomainSpec(VmiRef("demo", "vm"), VmiUid("vm"), folder, bandwidth=bandwidth)


async def test_run_folder_holds_what_kubevirt_has(qemu: QemuHypervisor, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 40)

    domain = await qemu.boot(spec(folder))

    names = {path for path in os.listdir(folder) if path.startswith("virt-")}
    assert names == {sockets.CONSOLE, sockets.CONSOLE_LOG, *sockets.SLOTS}
    assert b'"event":"ready"' in (folder / sockets.CONSOLE_LOG).read_bytes()
    await domain.destroy()
    assert await domain.wait_ended() == "destroyed"
    assert not {*sockets.SLOTS, sockets.CONSOLE} & {*os.listdir(folder)}


async def test_stick_is_back_after_each_of_many_cold_moves(
    qemu: QemuHypervisor, tmp_path: Path
) -> None:
    async with stage(qemu, tmp_path) as scene:
        guest = await scene.boot()
        link = await scene.plug_in(guest)
        await guest.until(is_pass)
        for _ in range(COLD_MOVES):
            target = await scene.listen()
            await scene.move(guest, target)
            await target.domain.resume()
            link.cut()
            await guest.domain.destroy()
            link = await scene.plug_in(target)
            facts = await target.until(lambda fact: isinstance(fact, Gap))
            facts += await target.until(is_pass)
            guest = target

            assert facts[-1] == "pass right, 0 errors"
            assert facts.count("disconnect") == 1


async def test_death_of_a_vm_is_told(qemu: QemuHypervisor, tmp_path: Path) -> None:
    domain = await qemu.boot(spec(tmp_path / "run"))

    os.kill(domain.pid, signal.SIGSEGV)

    async with asyncio.timeout(TIMEOUT_S):
        assert "killed by SIGSEGV" in await domain.wait_ended()


async def test_a_qemu_that_cannot_start_tells_why(image: GuestImage, tmp_path: Path) -> None:
    async with QemuHypervisor(image, accelerator="none-such") as hypervisor:
        with pytest.raises(LabError, match=r"did not start.*none-such"):
            await hypervisor.listen(spec(tmp_path / "run"))


async def test_source_runs_on_when_the_target_dies_in_the_copy(
    qemu: QemuHypervisor, tmp_path: Path
) -> None:
    source = await qemu.boot(spec(tmp_path / "source", bandwidth=1 << 20))
    target = await qemu.listen(spec(tmp_path / "target"))

    async def kill(phase: MigrationPhase) -> None:
        os.kill(target.pid, signal.SIGKILL)

    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(MigrationFailed):
            await source.migrate(target.address, on_phase=kill)
        with pytest.raises(MigrationFailed):
            await target.wait_migrated()
        again = await qemu.listen(spec(tmp_path / "again"))
        fast = asyncio.Event()

        async def once(phase: MigrationPhase) -> None:
            fast.set()

        migration = asyncio.TaskGroup()
        async with migration:
            task = migration.create_task(source.migrate(again.address, on_phase=once))
            await fast.wait()
            task.cancel()

    # Cancelling the task has cancelled the migration: the target has no state and ends.
    async with asyncio.timeout(TIMEOUT_S):
        assert "status 1" in await again.wait_ended()


async def test_an_address_that_nobody_listens_at_is_a_failed_migration(
    qemu: QemuHypervisor, tmp_path: Path
) -> None:
    source = await qemu.boot(spec(tmp_path / "run"))

    with pytest.raises(MigrationFailed, match="No such file"):
        await source.migrate(f"unix:{tmp_path}/nobody", on_phase=go_on)


async def test_qemu_dies_with_its_parent(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHAN, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(TIMEOUT_S):
        pid = int(await parent.stdout.readline())
        descriptor = os.pidfd_open(pid)
        gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, gone.set)

        parent.kill()
        await parent.wait()
        await gone.wait()

    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)
