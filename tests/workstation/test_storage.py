"""A stick in a VM that moves, from a workstation with a real kernel."""

from __future__ import annotations

import hashlib
import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.workstation.binding import CONNECTED, bound
from tests.support.workstation.reading import READ, read_on_and_on
from tests.support.workstation.target import VM, Target
from tests.support.workstation.vm import CLUSTER, WorkstationVm

pytestmark = [pytest.mark.workstation, pytest.mark.asyncio(loop_scope="session")]

STICK_BYTES = 16 << 20
STICK = "46f4:0001"
MOVES = 3

WRITE = """
set -e
head -c "$2" /dev/urandom >/tmp/content
dd if=/tmp/content of="$1" bs=1M oflag=direct conv=nocreat,notrunc status=none
sha256sum </tmp/content
"""
DRIVER_EVENTS = (
    "stdbuf",
    "-oL",
    "udevadm",
    "monitor",
    "--kernel",
    "--subsystem-match=usb/usb_interface",
)
COUNT_RESETS = """
import asyncio, logging, sys
from kubectl_vmredir.bootstrap import Options, open_service
from kubectl_vmredir.model import DeviceSelector, VmiRef
from kubectl_vmredir.service.interface import BindRequest, NumbersSampled, StoryAdded

async def main():
    device, namespace, name = sys.argv[1:]
    async with open_service(Options()) as connection:
        service = connection.service
        async with service.subscribe(numbers=True) as changes:
            await service.bind(BindRequest(DeviceSelector.parse(device), VmiRef(namespace, name)))
            async for change in changes:
                match change:
                    case StoryAdded(event=event):
                        print(f" {event.state}: {event.cause}", flush=True)
                    case NumbersSampled(numbers=numbers):
                        print(f"resets={numbers.resets_forwarded}", flush=True)

logging.basicConfig(level=logging.INFO)
asyncio.run(main())
"""


def disk(serial: str) -> str:
    return f"/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_{serial}-0:0"


@pytest.fixture
def stick_image(tmp_path: Path) -> Path:
    path = tmp_path / "stick"
    path.write_bytes(os.urandom(STICK_BYTES))
    return path


def sha256(stick_image: Path) -> str:
    return hashlib.sha256(stick_image.read_bytes()).hexdigest()


async def test_stick_is_read_and_written_right_after_each_migration(
    workstation: WorkstationVm, target: Target, stick_image: Path
) -> None:
    stick = await workstation.plug_stick("FLASH001", stick_image)
    async with workstation.agent.running(*DRIVER_EVENTS, user="root") as events:
        async with bound(workstation, target, f"{STICK}:FLASH001", "FLASH001") as bind:
            for number in range(MOVES):
                async with read_on_and_on(target, disk("FLASH001")):
                    await target.migrate()
                await bind.says("cold handover", times=number + 1)

                read = await target.shell(READ, disk("FLASH001"))
                assert read.strip() == sha256(stick_image)
                written = await target.shell(WRITE, disk("FLASH001"), str(STICK_BYTES))
                assert written.split()[0] == sha256(stick_image)
        await workstation.root("udevadm", "wait", "--timeout=10", disk("FLASH001"))

    # The device was claimed once: its driver went at the beginning, and came back at the end.
    assert re.findall(r"\] (bind|unbind) .*/([^/]+) \(usb\)", events.out) == [
        ("unbind", f"{stick.port_path}:1.0"),
        ("bind", f"{stick.port_path}:1.0"),
    ]


async def test_device_is_reset_at_claim_and_release_and_when_a_vm_asks_that_has_used_it(
    workstation: WorkstationVm, target: Target, stick_image: Path
) -> None:
    stick = await workstation.plug_stick("FLASH001", stick_image)
    await workstation.root("dmesg", "--clear")
    count = ("python3", "-c", COUNT_RESETS, f"{STICK}:FLASH001", VM.namespace, VM.name)
    async with workstation.agent.running(*count, environment=CLUSTER) as bind:
        await bind.says(CONNECTED)
        await target.appears("FLASH001")
        await target.migrate()
        await bind.says(CONNECTED, times=2)
        await target.shell(READ, disk("FLASH001"))
        bind.signal(signal.SIGINT)
        await bind.end()
    await workstation.root("udevadm", "wait", "--timeout=10", disk("FLASH001"))

    forwarded = int(re.findall(r"resets=(\d+)", bind.out)[-1])
    log = await workstation.root("dmesg")
    resets = log.count(f"usb {stick.port_path}: reset SuperSpeed USB device")
    assert resets == 1 + forwarded + 1
    assert forwarded  # the second VM side finds the device used
