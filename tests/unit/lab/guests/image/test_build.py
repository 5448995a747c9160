"""The image is built with apt and dpkg-deb; here both are scripts that serve prepared files."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.guests.image.build import build, find

MODULES = (
    "crct10dif_generic", "xhci_pci", "sd_mod", "usb_storage", "uas", "usbhid", "hid_generic",
    "evdev", "cdc_acm", "ftdi_sio",
)  # fmt: skip
KERNEL = "linux-image-6.1.0-99-amd64"

# Says what it was asked for in the file log; `update` makes lists that `show` then knows.
APT = """#!/bin/sh
echo "$(basename "$0") $*" >>{log}
last=$(eval echo "\\${{$#}}")
case "$*" in
    *update*) touch {folder}/lists ;;
    *show*) [ -e {folder}/lists ] || exit 100
        echo 'Depends: linux-image-6.1.0-99-amd64 (= 6.1.1)' ;;
    *download*) touch "${{last%:amd64}}_1_amd64.deb" ;;
esac
"""
DPKG_DEB = """#!/bin/sh
case "$2" in
    *linux-image*) mkdir -p "$3/boot" "$3/lib/modules/6.1.0-99-amd64"
        echo kernel >"$3/boot/vmlinuz-6.1.0-99-amd64"
        cd "$3/lib/modules/6.1.0-99-amd64" && for m in {modules}; do echo $m >$m.ko; done ;;
    *busybox*) mkdir -p "$3/bin"; echo busybox >"$3/bin/busybox" ;;
esac
"""


class Debian:
    """A system with apt.

    Attributes:
        lists: There if apt knows packages.
    """

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.lists = folder / "lists"
        self._log = folder / "log"
        apt = APT.format(log=self._log, folder=folder)
        for name, text in (
            ("apt-get", apt),
            ("apt-cache", apt),
            ("dpkg-deb", DPKG_DEB.format(modules=" ".join(MODULES))),
        ):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def calls(self) -> list[str]:
        """Return the commands so far, without options."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [" ".join(w for w in line.split() if "=" not in w and w != "-o") for line in lines]


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Debian:
    debian = Debian(tmp_path)
    monkeypatch.setenv("PATH", f"{debian.bin}:{os.environ['PATH']}")
    return debian


def test_kernel_and_busybox_are_fetched_by_way_of_the_metapackage(
    debian: Debian, tmp_path: Path
) -> None:
    debian.lists.touch()

    image = build(tmp_path / "guest")

    assert debian.calls() == [
        "apt-cache show --no-all-versions linux-image-amd64",
        f"apt-get download {KERNEL}:amd64",
        "apt-get download busybox-static:amd64",
    ]
    assert image.kernel.read_text() == "kernel\n"
    archive = gzip.decompress(image.initrd.read_bytes())
    assert b"busybox\n" in archive
    assert b"#!/bin/busybox sh" in archive
    assert archive.index(b"modules/00-crct10dif_generic.ko") < archive.index(b"-sd_mod.ko")


def test_own_lists_are_made_where_the_system_has_none(debian: Debian, tmp_path: Path) -> None:
    build(tmp_path / "guest")

    assert debian.calls()[:3] == [
        "apt-cache show --no-all-versions linux-image-amd64",
        "apt-get update",
        "apt-cache show --no-all-versions linux-image-amd64",
    ]


def test_an_image_is_built_once(debian: Debian, tmp_path: Path) -> None:
    debian.lists.touch()

    first = build(tmp_path / "guest")
    calls = debian.calls()
    second = build(tmp_path / "guest")

    assert first == second == find(tmp_path / "guest")
    assert debian.calls() == calls


def test_an_image_of_another_version_is_not_taken(debian: Debian, tmp_path: Path) -> None:
    debian.lists.touch()
    build(tmp_path / "guest")
    about = tmp_path / "guest" / "image.json"

    about.write_text(about.read_text().replace('"recipe": "', '"recipe": "0-'))

    assert find(tmp_path / "guest") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"recipe": 1}'])
def test_a_broken_note_means_that_there_is_no_image(text: str, tmp_path: Path) -> None:
    (tmp_path / "image.json").write_text(text)

    assert find(tmp_path) is None


def test_without_apt_it_says_where_it_can_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LabError, match="apt-cache, which is not here") as caught:
        build(tmp_path / "guest")

    assert "--backend sim" in str(caught.value.hint)


def test_a_failure_of_apt_is_told_in_its_own_words(debian: Debian, tmp_path: Path) -> None:
    (debian.bin / "apt-cache").write_text("#!/bin/sh\necho 'E: no packages found' >&2; exit 100\n")

    with pytest.raises(LabError, match="E: no packages found"):
        build(tmp_path / "guest")
