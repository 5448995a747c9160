"""How the program is started again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kubectl_vmredir.program import lasting_program, program


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program without Python, in the folder that krew has for its version."""
    executable = tmp_path / "store/v0.1.0/kubectl-vmredir"
    executable.parent.mkdir(parents=True)
    executable.touch(mode=0o700)
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(executable))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return executable


def test_link_of_krew_outlasts_a_version(frozen: Path, tmp_path: Path) -> None:
    link = tmp_path / "bin/kubectl-vmredir"
    link.symlink_to(frozen)

    assert lasting_program() == (str(link),)
    assert program() == (str(frozen),)


def test_link_to_another_program_is_not_taken(frozen: Path, tmp_path: Path) -> None:
    other = tmp_path / "bin/kubectl-vmredir"
    other.touch(mode=0o700)

    assert lasting_program() == (str(frozen),)


def test_without_a_link_it_is_the_program_itself(frozen: Path) -> None:
    assert lasting_program() == (str(frozen),)


def test_python_is_started_with_the_package() -> None:
    assert lasting_program() == (sys.executable, "-P", "-m", "kubectl_vmredir")
