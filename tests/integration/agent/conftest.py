"""One lab for the tests of a module, and a home for the agent of each test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.model import VmiRef


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A lab of two nodes with simulated guests."""
    async with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest_asyncio.fixture(loop_scope="module")
async def desk(lab: Lab) -> AsyncIterator[VmiRef]:
    """A VM that runs, and has said nothing of a stick yet."""
    desk = VmiRef("demo", "desk")
    await lab.create_vm(desk, slots=("flash", "token"))
    await lab.wait_running(desk)
    yield desk
    await lab.delete_vm(desk)
    await lab.until(
        lambda: lab.cache.get(Collection.VMS, desk.namespace, desk.name) is None, "the VM is gone"
    )


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose paths are short enough for sockets."""
    folder = Path(tempfile.mkdtemp(prefix="vmredir-"))
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(folder / name))
        (folder / name).mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(folder))
    yield folder
    shutil.rmtree(folder)
