"""Devices of each kind do their work in the VM: interrupt, bulk and isochronous transfers."""

from __future__ import annotations

import array
import asyncio
import json
import os

import pytest

from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.lab.guests import sockets
from tests.support.workstation.binding import binding, bound
from tests.support.workstation.guest_agent import LIMIT_S
from tests.support.workstation.security_key import REPORT_BYTES, plugged_security_key
from tests.support.workstation.target import Target
from tests.support.workstation.vm import LINE, SOUND_FILE, WorkstationVm

pytestmark = [pytest.mark.workstation, pytest.mark.asyncio(loop_scope="session")]

# -- keyboard --------------------------------------------------------------------------------------

KEYS = {"v": 47, "m": 50, "r": 19, "e": 18, "d": 32, "i": 23}
"""Names of QEMU, and codes of linux/input-event-codes.h."""
PRINT_KEYS = """
import glob, json, struct, sys
event = struct.Struct("llHHi")
(path,) = glob.glob("/dev/input/by-id/*KEYS001*-event-kbd")
codes = []
with open(path, "rb", buffering=0) as keyboard:
    print("ready", flush=True)
    while len(codes) < int(sys.argv[1]):
        *_, kind, code, value = event.unpack(keyboard.read(event.size))
        if (kind, value) == (1, 1):
            codes.append(code)
print(json.dumps(codes))
"""


async def test_keys_arrive_with_the_right_codes(workstation: WorkstationVm, target: Target) -> None:
    await workstation.plug("usb-kbd", "SPARE001")  # the last keyboard is not given away
    await workstation.plug("usb-kbd", "KEYS001")
    async with (
        bound(workstation, target, "0627:0001:KEYS001", "KEYS001"),
        target.agent.running("python3", "-c", PRINT_KEYS, str(len(KEYS)), user="root") as printing,
    ):
        await printing.says("ready")
        await workstation.press(*KEYS)
        lines = (await printing.end()).check().splitlines()

    assert json.loads(lines[-1]) == list(KEYS.values())


# -- serial adapter --------------------------------------------------------------------------------

LINE_BYTES = 2048
TURN_ROUND = """
import os, sys, tty
line = os.open("/dev/ttyUSB0", os.O_RDWR | os.O_NOCTTY)
tty.setraw(line)
print("ready", flush=True)
data = b""
while len(data) < int(sys.argv[1]):
    data += os.read(line, 4096)
data = data[::-1]
while data:
    data = data[os.write(line, data):]
"""


async def test_serial_adapter_carries_bytes_both_ways(
    workstation: WorkstationVm, target: Target
) -> None:
    sent = os.urandom(LINE_BYTES)
    await workstation.plug_serial_adapter("SERIAL001")
    with sockets.short_path(workstation.folder, LINE) as path:
        reader, writer = await asyncio.open_unix_connection(path)
    async with (
        bound(workstation, target, "0403:6001:SERIAL001", "SERIAL001"),
        target.agent.running("python3", "-c", TURN_ROUND, str(LINE_BYTES), user="root") as turning,
    ):
        await turning.says("ready")
        writer.write(sent)
        async with asyncio.timeout(LIMIT_S):
            received = await reader.readexactly(LINE_BYTES)
        (await turning.end()).check()
    writer.close()

    assert received == sent[::-1]


# -- sound card ------------------------------------------------------------------------------------

SOUND_S = 2
HEARD_LEAST = 0.1
"""What comes too late is not played: on a busy machine an emulated CPU is late half of the time."""
AMPLITUDE = 8000
SAMPLES_PER_S = 2 * 44100
"""Of the file, as QEMU writes it: in stereo."""
WAV_HEADER_BYTES = 44
PLAY = """
import array, subprocess, sys
seconds, amplitude = (int(text) for text in sys.argv[1:])
wave = array.array("h", [amplitude] * 100 + [-amplitude] * 100)
samples = wave * (2 * 48000 // len(wave) * seconds)
command = ["aplay", "-q", "-D", "plughw:0,0", "-t", "raw", "-f", "S16_LE", "-c", "2", "-r", "48000"]
subprocess.run(command, input=samples.tobytes(), check=True)
"""


async def test_sound_card_plays_what_the_vm_plays(
    workstation: WorkstationVm, target: Target
) -> None:
    await workstation.plug_sound_card("AUDIO001")
    async with bound(workstation, target, "46f4:0002:AUDIO001", "AUDIO001"):
        await target.run("python3", "-c", PLAY, str(SOUND_S), str(AMPLITUDE))

    data = await asyncio.to_thread((workstation.folder / SOUND_FILE).read_bytes)
    samples = array.array("h", data[WAV_HEADER_BYTES : len(data) // 2 * 2])
    heard_s = sum(1 for sample in samples if sample) / SAMPLES_PER_S
    assert HEARD_LEAST * SOUND_S <= heard_s <= SOUND_S * 1.01
    assert 0.5 * AMPLITUDE < max(samples) <= AMPLITUDE
    assert -AMPLITUDE <= min(samples) < -0.5 * AMPLITUDE


# -- security key ----------------------------------------------------------------------------------

ASK = """
import glob, os, sys
(path,) = glob.glob("/dev/hidraw*")
key = os.open(path, os.O_RDWR)
os.write(key, b"\\0" + bytes.fromhex(sys.argv[1]))
print(os.read(key, 64).hex())
"""


async def test_security_key_answers(workstation: WorkstationVm, target: Target) -> None:
    report = os.urandom(REPORT_BYTES).hex()
    async with (
        plugged_security_key(workstation, "KEY001"),
        bound(workstation, target, "1050:0120:KEY001", "KEY001"),
    ):
        answer = await target.run("python3", "-c", ASK, report)

    assert answer.strip() == report


# -- smartcard reader ------------------------------------------------------------------------------

PCSCD = ("pcscd", "--foreground", "--debug")
READER = "08e6:4433"


async def test_smartcard_reader_is_used_by_pcscd(
    workstation: WorkstationVm, target: Target
) -> None:
    await workstation.plug("usb-ccid", "CARD001")
    async with (
        bound(workstation, target, f"{READER}:CARD001", "CARD001"),
        target.agent.running(*PCSCD, user="root") as pcscd,
    ):
        await pcscd.says("Found Vendor/Product: 08E6/4433")
        await pcscd.says("polling thread")  # the reader has answered what it can


async def test_reader_that_pcscd_holds_is_refused_with_what_frees_it(
    workstation: WorkstationVm, target: Target
) -> None:
    await workstation.plug("usb-ccid", "CARD001")
    async with workstation.agent.running(*PCSCD, user="root") as pcscd:
        await pcscd.says("polling thread")

        async with binding(workstation, f"{READER}:CARD001") as bind:
            done = await bind.end()

    assert done.status == ExitCode.TAKEN
    assert "pcscd" in done.err
    assert "systemctl stop pcscd.socket pcscd" in done.err
