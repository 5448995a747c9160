"""One lab for the commands of a module."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from kubectl_vmredir.errors import ExitCode
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
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose paths are short enough for sockets, where no agent runs yet."""
    folder = Path(tempfile.mkdtemp(prefix="vmredir-"))
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(folder / name))
        (folder / name).mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def agent_cli(home: Path) -> Cli:
    """The command in that home."""
    names = ("XDG_RUNTIME_DIR", "XDG_STATE_HOME")
    return Cli(home, {name: os.environ[name] for name in names})


@pytest_asyncio.fixture(loop_scope="module")
async def user(agent_cli: Cli, lab: Lab) -> AsyncIterator[Cli]:
    """The command in that home, with the lab's cluster as the user's; its agent is ended."""
    kubeconfig = agent_cli.home / "kubeconfig"
    shutil.copy(lab.kubeconfig, kubeconfig)
    yield Cli(agent_cli.home, {**agent_cli.environment, "KUBECONFIG": str(kubeconfig)})
    assert (await agent_cli("agent", "stop", "--force")).status == ExitCode.OK


@pytest.fixture
def cli(lab: Lab, tmp_path: Path) -> Cli:
    """The command, with the lab's cluster as the user's and virtual devices."""
    return Cli(tmp_path, {"KUBECONFIG": str(lab.kubeconfig)})
