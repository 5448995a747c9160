"""What importing a layer really loads; import-linter sees the static graph only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IO = {"asyncio", "socket", "ssl", "subprocess", "threading"}
LIBRARIES = {"aiohttp", "click", "httpx", "kubernetes", "picows", "pyudev", "textual", "usb"}
NOT_FOR_HELP = {
    "aiohttp",
    "httpx",
    "kubectl_vmredir.service.service",
    "kubernetes",
    "picows",
    "textual",
}


@pytest.mark.parametrize(
    "module",
    [
        "kubectl_vmredir.protocol.guard",
        "kubectl_vmredir.protocol.parser",
        "kubectl_vmredir.continuity.machine",
        "kubectl_vmredir.service.gate",
        "kubectl_vmredir.service.migration",
        "kubectl_vmredir.service.safety",
        "kubectl_vmredir.service.wish",
    ],
)
def test_pure_layers_load_no_io(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    )

    assert set(done.stdout.split()) & (IO | LIBRARIES) == set()


@pytest.mark.parametrize(
    "arguments", [("--help",), ("version", "--help"), ("devices", "--virtual")]
)
def test_commands_that_need_no_cluster_load_no_client_of_one(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    loaded = modules_loaded_by(arguments, home=tmp_path)

    assert "kubectl_vmredir.cli.main" in loaded
    assert loaded & NOT_FOR_HELP == set()


def modules_loaded_by(arguments: tuple[str, ...], *, home: Path) -> set[str]:
    """Run the command, and return the names of all modules that were imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kubectl_vmredir", *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"HOME": str(home)},
    )
    # "import time:   self [us] |  cumulative | imported package"
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
