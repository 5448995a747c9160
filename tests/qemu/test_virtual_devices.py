"""Virtual devices in a real QEMU with a real Linux kernel, without anything in between."""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from kubectl_vmredir.lab.devices.keyboard import Keyboard
from kubectl_vmredir.lab.devices.serial_adapter import SerialAdapter
from kubectl_vmredir.lab.devices.smartcard import SmartcardReader
from kubectl_vmredir.lab.devices.source import VirtualDevices
from kubectl_vmredir.lab.devices.stick import Stick
from kubectl_vmredir.lab.guests.domain import Domain, DomainSpec
from kubectl_vmredir.lab.guests.image.build import build, default_folder
from kubectl_vmredir.lab.guests.qemu import QemuHypervisor
from kubectl_vmredir.lab.guests.report import Echoed, KernelLine, PassDone
from kubectl_vmredir.model import VmiRef, VmiUid
from tests.support.console_facts import facts
from tests.support.slots import plugged_into

pytestmark = pytest.mark.qemu

TIMEOUT_S = 60.0
TROUBLE = re.compile(r"reset|error|fail|warn|timed? ?out|not responding|babble", re.IGNORECASE)

LEFT_ALT = 1 << 2
SYSRQ = 0x46
KEY_H = 0x0B


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    image = await asyncio.to_thread(build, default_folder())
    async with QemuHypervisor(image) as hypervisor:
        yield await hypervisor.boot(DomainSpec(VmiRef("demo", "fedora"), VmiUid("1"), tmp_path))


async def test_sticks_enumerate_without_trouble_and_are_read_right(domain: Domain) -> None:
    images = [os.urandom(1 << 20), os.urandom(1 << 19)]
    sticks = [Stick("FLASH001", images[0]), Stick("FLASH002", images[1], read_only=True)]
    lines: list[str] = []
    passes: dict[str, PassDone] = {}
    async with (
        asyncio.timeout(TIMEOUT_S),
        VirtualDevices(sticks) as source,
        aclosing(facts(domain)) as console,
    ):
        first, second = await source.devices()
        async with plugged_into(domain, 0, source, first), plugged_into(domain, 1, source, second):
            async for fact in console:
                if isinstance(fact, KernelLine):
                    lines.append(fact.text)
                elif isinstance(fact, PassDone):
                    passes[fact.serial] = fact
                    if len(passes) == 2 and fact.number > 2:
                        break

    for stick, image in zip(sticks, images, strict=True):
        done = passes[stick.description.serial]
        assert (done.sha256, done.errors) == (hashlib.sha256(image).hexdigest(), 0)
        assert stick.bytes_served >= len(image) * done.number
    assert [line for line in lines if TROUBLE.search(line)] == []
    for expected in (
        "usb 1-1: new high-speed USB device",
        "usb 1-2: SerialNumber: FLASH002",
        "[sda] 2048 512-byte logical blocks",
        "[sda] Write Protect is off",
        "[sdb] Write Protect is on",
        "[sdb] Attached SCSI removable disk",
    ):
        assert any(expected in line for line in lines), f"{expected} not in {lines}"


async def test_line_goes_through_the_serial_adapter_and_back(domain: Domain) -> None:
    adapter = SerialAdapter("SERIAL001")
    lines: list[str] = []
    async with (
        asyncio.timeout(TIMEOUT_S),
        VirtualDevices([adapter]) as source,
        aclosing(facts(domain)) as console,
    ):
        [device] = await source.devices()
        async with plugged_into(domain, 1, source, device):
            async for fact in console:
                if isinstance(fact, KernelLine):
                    lines.append(fact.text)
                elif isinstance(fact, Echoed):
                    assert (fact.port, fact.right) == ("ttyACM0", True)
                    break

    assert [line for line in lines if TROUBLE.search(line)] == []
    assert any("ttyACM0: USB ACM device" in line for line in lines)
    assert adapter.line_coding.data_bits == 8


async def test_smartcard_reader_enumerates_without_trouble(domain: Domain) -> None:
    lines: list[str] = []
    async with (
        asyncio.timeout(TIMEOUT_S),
        VirtualDevices([SmartcardReader("CARD001")]) as source,
        aclosing(facts(domain)) as console,
    ):
        [device] = await source.devices()
        async with plugged_into(domain, 1, source, device):
            async for fact in console:
                if isinstance(fact, KernelLine):
                    lines.append(fact.text)
                    if "SerialNumber: CARD001" in fact.text:
                        break

    assert [line for line in lines if TROUBLE.search(line)] == []
    assert any("idVendor=0e0f, idProduct=0004" in line for line in lines)


async def test_keys_reach_the_kernel(domain: Domain) -> None:
    keyboard = Keyboard("KEYS001")
    lines: list[str] = []
    async with (
        asyncio.timeout(TIMEOUT_S),
        VirtualDevices([keyboard]) as source,
        aclosing(facts(domain)) as console,
    ):
        [device] = await source.devices()
        async with plugged_into(domain, 2, source, device):
            async for fact in console:
                if not isinstance(fact, KernelLine):
                    continue
                lines.append(fact.text)
                if "USB HID v1.11 Keyboard" in fact.text:
                    keyboard.press(SYSRQ, KEY_H, modifiers=LEFT_ALT)
                elif "sysrq: HELP" in fact.text:
                    break

    assert [line for line in lines if TROUBLE.search(line)] == []
    assert any("input: kubectl-vmredir Virtual Keyboard" in line for line in lines)
