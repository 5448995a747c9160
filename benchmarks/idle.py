"""Measures what idle redirections cost: ``python -m benchmarks.idle``, or ``make bench-idle``.

Four devices of different kinds, of the workstation VM, are bound to the four slots of a VM of the
lab, each by a command of its own. Nothing uses them; the kernel of the workstation counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import in_vm
from benchmarks.idleness import Idleness, Look
from tests.support.workstation import image as images
from tests.support.workstation.binding import bound
from tests.support.workstation.target import SLOTS, Target, qemu_lab
from tests.support.workstation.vm import WorkstationVm

if TYPE_CHECKING:
    from kubectl_vmredir.lab.guests.image.build import GuestImage

SECONDS: Final = 60.0
SETTLE_S: Final = 20.0
"""For what follows a connection: the VM looks at its new devices."""

DEVICES: Final = (
    ("46f4:0001:STICK001", "STICK001"),
    ("0627:0001:KEYS001", "KEYS001"),
    ("0403:6001:SERIAL001", "SERIAL001"),
    ("46f4:0002:AUDIO001", "AUDIO001"),
)
"""A stick, a keyboard, a serial adapter and a sound card: what a user calls each, and its serial
number."""
_STICK_BYTES: Final = 1 << 20


async def measure(image: GuestImage, folder: Path, seconds: float) -> Idleness:
    """Bind the devices, leave them alone, and see what our processes do all the same.

    Args:
        image: What both VMs boot.
        folder: An empty one.
        seconds: How long to look.
    """
    for name in ("workstation", "lab"):
        (folder / name).mkdir()
    async with AsyncExitStack() as stack:
        workstation = await stack.enter_async_context(WorkstationVm(image, folder / "workstation"))
        lab = await stack.enter_async_context(qemu_lab(image, folder / "lab"))
        await workstation.use_cluster(lab.kubeconfig)
        target = await stack.enter_async_context(Target(lab))
        await _plug(workstation, folder / "stick")
        for (device, serial), slot in zip(DEVICES, SLOTS, strict=True):
            await stack.enter_async_context(bound(workstation, target, device, serial, slot=slot))
        await asyncio.sleep(SETTLE_S)
        before = Look.parse(await _ask(workstation, "processes"))
        await asyncio.sleep(seconds)
        after = Look.parse(await _ask(workstation, "processes"))
        return Idleness.between(
            before,
            after,
            loop_vm_s=await _ask(workstation, "loop"),
            loop_here_s=await asyncio.to_thread(in_vm.loop_s),
        )


async def _plug(workstation: WorkstationVm, stick: Path) -> None:
    await asyncio.to_thread(stick.write_bytes, os.urandom(_STICK_BYTES))
    await workstation.plug_stick("STICK001", stick)
    await workstation.plug("usb-kbd", "SPARE001")  # the last keyboard is not given away
    await workstation.plug("usb-kbd", "KEYS001")
    await workstation.plug_serial_adapter("SERIAL001")
    await workstation.plug_sound_card("AUDIO001")


async def _ask(workstation: WorkstationVm, what: str) -> Any:  # noqa: ANN401 - JSON
    program = await asyncio.to_thread(Path(in_vm.__file__).read_text)
    return json.loads(await workstation.root("python3", "-c", program, what))


def main() -> int:
    """Run the benchmark; the status is 1 if the processes take too much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("-o", "--output", choices=["json"], help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long to look")
    options = parser.parse_args()
    image = images.build(images.default_folder())
    with tempfile.TemporaryDirectory(prefix="vmredir-idle-") as folder:
        idleness = asyncio.run(measure(image, Path(folder), options.seconds))
    print(json.dumps(idleness.to_json(), indent=2) if options.output else idleness.to_text())
    return 0 if idleness.ok else 1


if __name__ == "__main__":
    sys.exit(main())
