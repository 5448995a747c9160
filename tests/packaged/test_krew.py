"""The archive and its manifest, as krew and the rules of its index want them."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from kubectl_vmredir.usb.library import LIBUSB, LIBUSBREDIRHOST
from tests.support.krew import DIST, Krew, archive, manifest
from tests.support.peers import peer

pytestmark = pytest.mark.packaged

LIMIT_S = 60.0


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the files of a folder on this machine; give the URL."""
    handler = functools.partial(_Quiet, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_rules_of_the_index_are_kept(tmp_path: Path) -> None:
    krew = Krew.in_folder(tmp_path)
    content = manifest()
    with serving(DIST) as url:
        for entry in content["spec"]["platforms"]:  # type: ignore[index]
            entry["uri"] = f"{url}/{entry['uri'].rpartition('/')[2]}"
        file = tmp_path / "vmredir.yaml"
        file.write_text(yaml.safe_dump(content))

        done = subprocess.run(
            [peer("validate-krew-manifest"), "-manifest", file],
            env={**krew.variables, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    assert done.returncode == 0, done.stderr


def test_the_manifest_names_the_archives_that_there_are_and_no_others() -> None:
    platforms = manifest()["spec"]["platforms"]  # type: ignore[index]

    named = {entry["uri"].rpartition("/")[2]: entry["sha256"] for entry in platforms}

    assert named == {archive().name: hashlib.sha256(archive().read_bytes()).hexdigest()}


def test_the_archive_holds_files_and_folders_below_one_folder() -> None:
    with tarfile.open(archive()) as tar:
        entries = tar.getmembers()

    assert {entry.type for entry in entries} == {tarfile.REGTYPE, tarfile.DIRTYPE}
    assert {Path(entry.name).parts[0] for entry in entries} == {"kubectl-vmredir"}
    assert not [entry.name for entry in entries if ".." in Path(entry.name).parts]


def test_the_libraries_lie_beside_the_program_with_their_licences(krew: Krew) -> None:
    libraries = {path.name for path in (krew.installed / "_internal").glob("lib*.so*")}
    texts = krew.installed / "licences"

    assert {LIBUSB, LIBUSBREDIRHOST, "libusbredirparser.so.1"} <= libraries
    assert "libudev.so.1" not in libraries
    for package in ("libusb-1.0-0", "libusbredirhost1", "libusbredirparser1"):
        assert "LGPL" in (texts / "libraries" / package / "copyright").read_text()
        assert package in (texts / "VERSIONS").read_text()
    assert "LESSER GENERAL PUBLIC LICENSE" in (texts / "common" / "LGPL-2.1").read_text()
    assert (krew.installed / "LICENSE").exists()


def test_the_programs_for_the_cluster_are_those_of_the_wheel(krew: Krew) -> None:
    (wheel,) = DIST.glob("*.whl")
    with zipfile.ZipFile(wheel) as contents:
        edges = {
            name: contents.read(name) for name in contents.namelist() if "/edge/binaries/" in name
        }

    assert edges
    assert edges == {name: (krew.installed / "_internal" / name).read_bytes() for name in edges}


def test_it_can_be_uninstalled(tmp_path: Path) -> None:
    krew = Krew.in_folder(tmp_path)
    told = krew.install()

    krew("uninstall", "vmredir")

    assert "kubectl vmredir doctor" in told
    assert list((krew.root / "bin").iterdir()) == []
    assert not krew.installed.exists()
