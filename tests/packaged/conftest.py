"""The installed plugin, and a lab whose kubeconfig names a credential plugin."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.model import VmiRef
from tests.support.commands import Cli
from tests.support.krew import Krew

DESK = VmiRef("demo", "desk")
API_VERSION = "client.authentication.k8s.io/v1"


@pytest.fixture(scope="module")
def krew(tmp_path_factory: pytest.TempPathFactory) -> Krew:
    """krew, which has installed what was built."""
    krew = Krew.in_folder(tmp_path_factory.mktemp("krew"))
    krew.install()
    return krew


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """A lab with a VM that has slots."""
    async with Lab(tmp_path_factory.mktemp("lab")) as lab:
        await lab.create_vm(DESK, slots=("flash", "token"))
        await lab.wait_running(DESK)
        yield lab


@pytest.fixture
def seen_by_children(tmp_path: Path) -> Path:
    """Where the credential plugin writes the variables that it was given."""
    return tmp_path / "variables"


@pytest.fixture
def plugin(krew: Krew, lab: Lab, tmp_path: Path, seen_by_children: Path) -> Cli:
    """The installed plugin; the user's credentials come from a program."""
    config = yaml.safe_load(lab.kubeconfig.read_text(encoding="utf-8"))
    users = {entry["name"]: entry["user"] for entry in config["users"]}
    credential = {
        "apiVersion": API_VERSION,
        "kind": "ExecCredential",
        "status": {"token": users["alice"].pop("token")},
    }
    program = tmp_path / "login"
    program.write_text(
        f"#!/bin/sh\nenv > {shlex.quote(str(seen_by_children))}\n"
        f"echo {shlex.quote(json.dumps(credential))}\n"
    )
    program.chmod(0o700)
    users["alice"]["exec"] = {
        "apiVersion": API_VERSION,
        "command": str(program),
        "interactiveMode": "Never",
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    return krew.plugin(tmp_path, {"KUBECONFIG": str(kubeconfig), "LD_LIBRARY_PATH": "/of/the/user"})
