"""The virtual smartcard reader under a real pcscd, with a real libccid, in a VM."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubectl_vmredir.lab.devices.card import AID
from kubectl_vmredir.lab.devices.smartcard import SmartcardReader
from kubectl_vmredir.lab.devices.source import VirtualDevices
from kubectl_vmredir.lab.guests.domain import DomainSpec
from kubectl_vmredir.lab.guests.image.build import GuestImage
from kubectl_vmredir.lab.guests.qemu import QemuHypervisor
from kubectl_vmredir.model import VmiRef, VmiUid
from tests.support.slots import plugged_into
from tests.support.workstation import guest_agent
from tests.support.workstation.guest_agent import GuestAgent

pytestmark = [pytest.mark.workstation, pytest.mark.asyncio(loop_scope="session")]

LIMIT_S = 120.0
MEMORY_MIB = 256
CONTENT = b"what is on the card"

# A program that asks pcscd as all programs do, through libpcsclite. Numbers of winscard.h and
# pcsclite.h: scope system 2, shared 2, either protocol 3, disposition reset 1.
CLIENT = """
import ctypes, sys, time
pcsc, ulong = ctypes.CDLL("libpcsclite.so.1"), ctypes.c_ulong

class Header(ctypes.Structure):
    _fields_ = [("protocol", ulong), ("length", ulong)]

def check(status):
    assert status == 0, hex(status & 0xFFFFFFFF)

def readers():
    names, size = ctypes.create_string_buffer(1000), ulong(1000)
    while pcsc.SCardListReaders(context, None, names, ctypes.byref(size)):
        time.sleep(0.1)
    return names.value

def transmit(apdu):
    answer, size = ctypes.create_string_buffer(300), ulong(300)
    header = Header(protocol.value, ctypes.sizeof(Header))
    check(pcsc.SCardTransmit(
        card, ctypes.byref(header), apdu, ulong(len(apdu)), None, answer, ctypes.byref(size)
    ))
    return answer.raw[:size.value]

context, card, protocol = ctypes.c_long(), ctypes.c_long(), ulong()
check(pcsc.SCardEstablishContext(ulong(2), None, None, ctypes.byref(context)))
reader = readers()
print(reader.decode())
check(pcsc.SCardConnect(
    context, reader, ulong(2), ulong(3), ctypes.byref(card), ctypes.byref(protocol)
))
for apdu in sys.argv[1:]:
    print(transmit(bytes.fromhex(apdu)).hex())
check(pcsc.SCardDisconnect(card, ulong(1)))
"""


async def test_pcscd_drives_the_reader_and_a_program_reads_the_card(
    image: GuestImage, tmp_path: Path
) -> None:
    reader = SmartcardReader("CARD001", CONTENT)
    spec = DomainSpec(VmiRef("desk", "cards"), VmiUid("1"), tmp_path, MEMORY_MIB)
    async with (
        asyncio.timeout(LIMIT_S),
        VirtualDevices([reader]) as source,
        QemuHypervisor(image, extra=guest_agent.DEVICES) as hypervisor,
    ):
        domain = await hypervisor.boot(spec)
        [device] = await source.devices()
        async with (
            plugged_into(domain, 0, source, device),
            GuestAgent(tmp_path) as agent,
            agent.running("pcscd", "--foreground", "--debug", user="root") as pcscd,
        ):
            select, read = f"00a4040008{AID.hex()}", f"00b00000{len(CONTENT):02x}"
            done = await agent.run("python3", "-c", CLIENT, select, read, user="root")
            name, *answers = done.check().splitlines()
            reader.remove_card()
            await pcscd.says("Card Removed From VMware Virtual USB CCID (CARD001)")
            reader.insert_card()
            await pcscd.says("Card inserted into VMware Virtual USB CCID (CARD001)")

    assert name.startswith("VMware Virtual USB CCID (CARD001)")
    assert answers == ["9000", CONTENT.hex() + "9000"]
