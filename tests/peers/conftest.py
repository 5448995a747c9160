"""One lab with simulated guests for the real clients of a module."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from kubectl_vmredir.lab.cluster import Lab
from tests.support.peers import peer
from tests.support.real_clients import RealClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A lab of two nodes."""
    async with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def kubectl(lab: Lab, tmp_path: Path) -> RealClient:
    """kubectl, as alice where no context is named; it finds our command as its plugin."""
    return RealClient("kubectl", lab.kubeconfig, tmp_path, path=str(Path(sys.executable).parent))


@pytest.fixture
def virtctl(lab: Lab, tmp_path: Path) -> RealClient:
    """virtctl, as alice where no context is named."""
    return RealClient(peer("virtctl"), lab.kubeconfig, tmp_path)
