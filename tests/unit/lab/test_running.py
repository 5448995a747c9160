from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.running import is_running, the_only_lab

_HOLDER = """
import sys
from pathlib import Path
from kubectl_vmredir.lab.running import the_only_lab

with the_only_lab(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_folder_is_made_for_this_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "lab"

    with the_only_lab(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_second_lab_in_a_folder_is_refused(tmp_path: Path) -> None:
    with the_only_lab(tmp_path):
        with (
            pytest.raises(LabError, match=r"a lab runs in .* already") as caught,
            the_only_lab(tmp_path),
        ):
            pass
        assert is_running(tmp_path)

    assert "--lab" in str(caught.value.hint)
    assert not is_running(tmp_path)


def test_nothing_runs_where_there_is_no_folder(tmp_path: Path) -> None:
    assert not is_running(tmp_path / "nowhere")


def test_lab_that_is_killed_runs_no_more(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert is_running(tmp_path)
        holder.kill()

    assert not is_running(tmp_path)


def test_folder_that_cannot_be_made_is_the_users_matter(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(LabError, match=r"cannot use .*: Not a directory"),
        the_only_lab(tmp_path / "file" / "lab"),
    ):
        pass
