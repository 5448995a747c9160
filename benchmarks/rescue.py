"""Measures how soon a device is back after a crash: ``python -m benchmarks.rescue``.

A stick of the workstation VM is bound; then the command and its usb-host are killed, and it belongs
to nobody. The next command of ours, ``devices``, gives it back. Timed, as the ordinary user, is
from the start of that command until udev has made the disk; compared with a bare start of Python
in the same VM, which is emulated, and slow.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import in_vm
from benchmarks.report import table
from tests.support.workstation import image as images
from tests.support.workstation.binding import CONNECTED, binding
from tests.support.workstation.target import Target, qemu_lab
from tests.support.workstation.vm import WorkstationVm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.lab.guests.image.build import GuestImage

ROUNDS: Final = 5
MOST_S: Final = 3.0
"""What the median may be."""

_STICK_BYTES: Final = 1 << 20


async def measure(image: GuestImage, folder: Path) -> Sequence[tuple[float, float]]:
    """Return the time until the device is back, and that of a bare start of Python, each round.

    Args:
        image: What both VMs boot.
        folder: An empty one.
    """
    for name in ("workstation", "lab"):
        (folder / name).mkdir()
    async with AsyncExitStack() as stack:
        workstation = await stack.enter_async_context(WorkstationVm(image, folder / "workstation"))
        lab = await stack.enter_async_context(qemu_lab(image, folder / "lab"))
        await workstation.use_cluster(lab.kubeconfig)
        await stack.enter_async_context(Target(lab))
        return [await _round(workstation, folder, f"STICK00{number}") for number in range(ROUNDS)]


async def _round(workstation: WorkstationVm, folder: Path, serial: str) -> tuple[float, float]:
    stick = folder / serial
    await asyncio.to_thread(stick.write_bytes, os.urandom(_STICK_BYTES))
    await workstation.plug_stick(serial, stick)
    async with binding(workstation, f"46f4:0001:{serial}") as bind:
        await bind.says(CONNECTED)
        await workstation.root("pkill", "-KILL", "-f", "kubectl-vmredir bind|kubectl_vmredir usb")
        await bind.end()
        program = await asyncio.to_thread(Path(in_vm.__file__).read_text)
        disk = f"/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_{serial}-0:0"
        done = await workstation.user(
            "python3", "-c", program, "until", disk, "kubectl-vmredir", "devices"
        )
    await workstation.unplug_all()
    said = json.loads(done.check())
    return said["took_s"], said["bare_s"]


def main() -> int:
    """Run the benchmark; the status is 1 if it takes too long."""
    image = images.build(images.default_folder())
    with tempfile.TemporaryDirectory(prefix="vmredir-rescue-") as folder:
        rounds = asyncio.run(measure(image, Path(folder)))
    rows = [[f"{took:.2f} s", f"{bare:.2f} s", f"{took / bare:.1f}"] for took, bare in rounds]
    print("\n".join(table(["until the disk is back", "a bare start of Python", "ratio"], rows)))
    median_s = statistics.median(took for took, _ in rounds)
    print(f"\nmedian {median_s:.2f} s; {MOST_S:.0f} s at most")
    return 0 if median_s <= MOST_S else 1


if __name__ == "__main__":
    sys.exit(main())
