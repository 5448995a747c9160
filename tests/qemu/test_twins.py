"""The twin test: real and simulated guest play the same scenes, with the same transcript.

Where QEMU leaves something to chance the simulation takes the worst. Of the scenes here only the
wrong byte is such a case: QEMU aborts if more was read together with what its parser rejects, so
the scene sends enough for that; the simulation aborts at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kubectl_vmredir.lab.guests.image import build
from kubectl_vmredir.lab.guests.qemu import QemuHypervisor
from kubectl_vmredir.lab.guests.sim import SimHypervisor
from tests.support.twins import SCENES, stage

pytestmark = pytest.mark.qemu


@pytest.fixture
async def qemu() -> AsyncIterator[QemuHypervisor]:
    image = build.find(build.default_folder())
    assert image is not None, "no guest image; build it with: make guest"
    async with QemuHypervisor(image) as hypervisor:
        yield hypervisor


@pytest.mark.parametrize("name", SCENES)
async def test_twins_play_a_scene_alike(name: str, qemu: QemuHypervisor, tmp_path: Path) -> None:
    async with SimHypervisor() as sim, stage(sim, tmp_path / "sim") as scene:
        simulated = await SCENES[name](scene)

    async with stage(qemu, tmp_path / "qemu") as scene:
        real = await SCENES[name](scene)

    assert real == simulated
