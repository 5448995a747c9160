"""One workstation for all tests of a session: a test begins with nothing plugged in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from kubectl_vmredir.lab.guests.image.build import GuestImage
from tests.support.workstation import image as images
from tests.support.workstation.vm import WorkstationVm


@pytest.fixture(scope="session")
def image() -> GuestImage:
    image = images.find(images.default_folder())
    assert image is not None, "no image; build it with: python -m tests.support.workstation.image"
    return image


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running_workstation(
    image: GuestImage, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[WorkstationVm]:
    async with WorkstationVm(image, tmp_path_factory.mktemp("workstation")) as vm:
        yield vm


@pytest_asyncio.fixture(loop_scope="session")
async def workstation(running_workstation: WorkstationVm) -> AsyncIterator[WorkstationVm]:
    yield running_workstation
    await running_workstation.unplug_all()
