"""Wheel and source distribution, installed by pip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kubectl_vmredir import __version__
from tests.support.krew import DIST

pytestmark = pytest.mark.packaged

LIMIT_S = 60.0


@pytest.mark.parametrize(
    "name",
    [f"kubectl_vmredir-{__version__}-py3-none-any.whl", f"kubectl_vmredir-{__version__}.tar.gz"],
)
def test_pip_installs_a_program_with_all_its_files(tmp_path: Path, name: str) -> None:
    """What it needs is there already, and so is the builder: pip asks no registry."""
    target = tmp_path / "site"

    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--no-index", "--no-build-isolation", "--target", target, DIST / name,
        ],
        check=True, timeout=LIMIT_S,
    )  # fmt: skip
    done = subprocess.run(
        [target / "bin" / "kubectl-vmredir", "version"],
        env={"PYTHONPATH": str(target), "HOME": str(tmp_path)},
        cwd=tmp_path, check=True, capture_output=True, text=True, timeout=LIMIT_S,
    )  # fmt: skip

    assert done.stdout == f"kubectl-vmredir {__version__}\n"
    ours = Path(__file__).parents[2] / "kubectl_vmredir"
    assert {path.relative_to(target) for path in (target / "kubectl_vmredir").rglob("*.tcss")} == {
        path.relative_to(ours.parent) for path in ours.rglob("*.tcss")
    }
    assert (target / "kubectl_vmredir" / "lab" / "guests" / "image" / "init.sh").exists()
