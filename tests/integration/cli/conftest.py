"""One lab for the commands of a module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.model import VmiRef
from tests.support.commands import Cli

DESK = VmiRef("demo", "desk")
PLAIN = VmiRef("demo", "plain")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A lab with a VM that has slots, and one that has none."""
    async with Lab(tmp_path_factory.mktemp("lab")) as lab:
        await lab.create_vm(DESK, slots=("flash", "token"))
        await lab.create_vm(PLAIN, passthrough=False)
        await lab.wait_running(DESK)
        await lab.wait_running(PLAIN)
        yield lab


@pytest.fixture
def cli(lab: Lab, tmp_path: Path) -> Cli:
    """The command, with the lab's cluster as the user's and virtual devices."""
    return Cli(tmp_path, {"KUBECONFIG": str(lab.kubeconfig)})
