"""What the scenes of the twin test come to, on the simulated guest alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubectl_vmredir.lab.guests.sim import SimHypervisor
from tests.support.twins import SCENES, stage

VERSION = "qemu usb-redir guest 7.2.22"
DISK = "disk TWIN 1048576"
PASS = "pass right, 0 errors"

TRANSCRIPTS = {
    "attach": [
        "hello",
        "reset",
        "control 80 06 0100 0000 64",  # device descriptor, by the old scheme
        "control 80 06 0100 0000 18",
        "control 80 06 0200 0000 9",  # configuration descriptor
        "control 80 06 0200 0000 32",
        "control 80 06 0300 0000 255",  # languages, product, manufacturer, serial number
        "control 80 06 0302 0409 255",
        "control 80 06 0301 0409 255",
        "control 80 06 0303 0409 255",
        "set_configuration 1",
        "control a1 fe 0000 0000 1",  # GET MAX LUN
        "scsi 12",  # INQUIRY
        "bulk",
        "scsi 00",  # TEST UNIT READY
        "scsi 03",  # REQUEST SENSE
        "scsi 25",  # READ CAPACITY(10)
        "scsi 28",  # READ(10)
        "scsi 1a",  # MODE SENSE(6)
        "control 02 01 0000 0081 0",  # CLEAR FEATURE: the halt after a short answer
        "scsi 1e",  # PREVENT ALLOW MEDIUM REMOVAL
        DISK,
        PASS,
    ],
    "keyboard": [
        "hello",
        "reset",
        "control 80 06 0100 0000 64",
        "control 80 06 0100 0000 18",
        "control 80 06 0600 0000 10",  # device qualifier: could it be faster elsewhere?
        "control 80 06 0200 0000 9",
        "control 80 06 0200 0000 34",
        "control 80 06 0300 0000 255",
        "control 80 06 0302 0409 255",
        "control 80 06 0301 0409 255",
        "control 80 06 0303 0409 255",
        "set_configuration 1",
        "control 21 0a 0000 0000 0",  # SET IDLE
        "control 81 06 2200 0000 63",  # report descriptor
        "control 21 09 0200 0000 1",  # SET REPORT: no light
        "start_interrupt_receiving",
    ],
    "two_of_the_same": [DISK, PASS, "disk usb1-2 1048576"],
    "cancelled": [PASS, PASS],
    "no_client": ["disconnect", "error", DISK, "gap", PASS, "hello"],
    "silent_standby": [PASS, PASS],
    "half_a_packet": [PASS, PASS],
    "one_byte_too_many": ["SIGABRT"],
    "one_byte_too_few": ["SIGABRT"],
    "second_client": [PASS, PASS, "disconnect", VERSION],
    "idle_standby": [PASS, "silent", VERSION],
}


def test_every_scene_has_a_transcript() -> None:
    assert TRANSCRIPTS.keys() == SCENES.keys()


@pytest.mark.parametrize("name", SCENES)
async def test_simulated_guest_plays_the_scene(name: str, tmp_path: Path) -> None:
    async with SimHypervisor() as hypervisor, stage(hypervisor, tmp_path) as scene:
        transcript = await SCENES[name](scene)

    assert transcript == TRANSCRIPTS[name]
