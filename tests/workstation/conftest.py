"""One workstation and one VM of a lab for all tests of a session.

A test begins with nothing plugged in, and the VM runs on any of two nodes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.guests.image.build import GuestImage
from tests.support.workstation import image as images
from tests.support.workstation.target import Target, qemu_lab
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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lab(image: GuestImage, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with qemu_lab(image, tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def target(lab: Lab, running_workstation: WorkstationVm) -> AsyncIterator[Target]:
    await running_workstation.use_cluster(lab.kubeconfig)
    async with Target(lab) as target:
        yield target


@pytest_asyncio.fixture(loop_scope="session")
async def workstation(running_workstation: WorkstationVm) -> AsyncIterator[WorkstationVm]:
    yield running_workstation
    await running_workstation.unplug_all()
