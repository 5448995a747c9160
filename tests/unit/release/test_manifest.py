"""The manifest that is written: of the archives that there are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from kubectl_vmredir import __version__
from release import manifest
from release.failure import BuildFailed
from release.libraries import GLIBC_FLOOR

AMD64 = manifest.archive_name(__version__, "amd64")
ARM64 = manifest.archive_name(__version__, "arm64")


@pytest.mark.parametrize("names", [(), (AMD64,), (AMD64, ARM64)])
def test_a_platform_is_listed_if_and_only_if_its_archive_is_there(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / name).write_text(name)
    for other in (manifest.archive_name("0.0.1", "amd64"), "kubectl_vmredir-0.1.0.tar.gz"):
        (tmp_path / other).touch()

    written = manifest.write(tmp_path, __version__)

    platforms = yaml.safe_load(written.read_text())["spec"]["platforms"]
    assert {entry["uri"].rpartition("/")[2]: entry["sha256"] for entry in platforms} == {
        name: hashlib.sha256(name.encode()).hexdigest() for name in names
    }
    assert [entry["selector"]["matchLabels"]["arch"] for entry in platforms] == [
        name.rpartition("_")[2].removesuffix(".tar.gz") for name in names
    ]


def test_what_the_template_says_is_kept(tmp_path: Path) -> None:
    written = yaml.safe_load(manifest.write(tmp_path, __version__).read_text())

    del written["spec"]["platforms"]
    assert written == yaml.safe_load(manifest.TEMPLATE.read_text())
    assert written["metadata"]["name"] == "vmredir"


def test_another_version_than_the_templates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"says v.*, the program v9\.9\.9"):
        manifest.write(tmp_path, "9.9.9")


def test_the_template_names_the_oldest_glibc() -> None:
    assert f"glibc {GLIBC_FLOOR[0]}.{GLIBC_FLOOR[1]} or later" in manifest.TEMPLATE.read_text()
