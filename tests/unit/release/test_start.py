"""The frozen program's start: its children get the environment that the user's shell had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("original", "wanted"),
    [({}, {}), ({"LD_LIBRARY_PATH_ORIG": "/a:/b"}, {"LD_LIBRARY_PATH": "/a:/b"})],
)
def test_the_variables_of_the_bootloader_are_gone(
    tmp_path: Path, original: dict[str, str], wanted: dict[str, str]
) -> None:
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    bootloader = {"LD_LIBRARY_PATH": "/bundle", "_PYI_ARCHIVE_FILE": "/bundle/program", **original}
    code = (
        "import os, sys, atexit; sys.argv[1:] = ['version'];"
        "atexit.register(lambda: print(*(f'{k}={v}' for k, v in os.environ.items()), sep='\\n'));"
        "from release.start import main; sys.exit(main())"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=given | bootloader, cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip

    version, *variables = done.stdout.splitlines()
    assert version.startswith("kubectl-vmredir ")
    assert dict(line.split("=", 1) for line in variables) == given | wanted
