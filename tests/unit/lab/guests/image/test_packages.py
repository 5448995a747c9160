"""Packages with all that they need, from an apt that is a script."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.guests.image.packages import fetch_with_dependencies

# Solves `install`, if it is for a machine without any package; writes down what to `download`.
APT_GET = """#!/bin/sh
case "$*" in
    *status=/dev/null*--print-uris*)
        echo "'http://debian.test/udev.deb' udev_252-1_amd64.deb 99 SHA256:00"
        echo "'http://debian.test/l.deb' libudev1_1%3a252-1_amd64.deb 99 SHA256:00" ;;
    *download*)
        echo "$*" >>{log} ;;
    *) exit 100 ;;
esac
"""
FILES = ("udev_252-1_amd64.deb", "libudev1_1%3a252-1_amd64.deb")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the script in the place of apt, and return the file with its downloads."""
    log = tmp_path / "log"
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text(APT_GET.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return log


def test_a_package_comes_with_what_it_depends_on(log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packages"

    found = fetch_with_dependencies(folder, ["udev"])

    assert found == [folder / name for name in FILES]
    assert log.read_text().endswith("download udev libudev1\n")


def test_what_is_there_is_not_fetched_again(log: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    for name in FILES:
        (folder / name).touch()

    found = fetch_with_dependencies(folder, ["udev"])

    assert found == [folder / name for name in FILES]
    assert not log.exists()


def test_packages_that_cannot_be_had_are_an_error(log: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "apt-get"
    program.write_text("#!/bin/sh\necho 'E: Unable to locate package udev' >&2\nexit 100\n")

    with pytest.raises(LabError, match="Unable to locate package udev"):
        fetch_with_dependencies(tmp_path / "packages", ["udev"])
