"""The image of the VMs: Debian, what the program depends on, and an agent for the tests.

``python -m tests.support.workstation.image`` builds it, if it is not there. It is made without
root: packages are unpacked, not installed. What their maintainer scripts would have done, the VM
does when it boots (``guest/init.sh``), which happens once for each image.

The program itself is not in the image: the workstation mounts it from this checkout.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import platformdirs

from kubectl_vmredir.errors import ExitCode, LabError
from kubectl_vmredir.lab.guests.image import packages
from kubectl_vmredir.lab.guests.image.build import GuestImage, locked, only_one
from kubectl_vmredir.lab.guests.image.cpio import Archive
from kubectl_vmredir.lab.guests.image.modules import ModuleTree
from tests.support.workstation import dependencies, root

logger = logging.getLogger(__name__)

_DISK_MODULES: Final = ("virtio_pci", "virtio_blk", "crc32c_generic", "erofs", "overlay")
"""What the initramfs needs to mount the disk; erofs asks for crc32c by what it does."""
_SOURCES: Final = (Path(__file__), Path(root.__file__), Path(dependencies.__file__))
_PACK_TIMEOUT_S: Final = 120.0


def default_folder() -> Path:
    """Return where images are kept for this user."""
    return platformdirs.user_cache_path("kubectl-vmredir") / "workstation"


def find(folder: Path) -> GuestImage | None:
    """Return the image, if it was built from what is here now."""
    key = _key()
    place = folder / key
    if not place.exists():
        return None
    return GuestImage(place / "vmlinuz", place / "initrd.gz", key, place / "root.erofs")


def build(folder: Path) -> GuestImage:
    """Return the image; builds it first, if need be. Takes half a minute then, and a network.

    Images of other inputs are deleted.

    Raises:
        LabError: If it cannot be built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if image := find(folder):
            return image
        for old in folder.glob("image-*"):
            shutil.rmtree(old)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            made = Path(work, "made")
            made.mkdir()
            _build(folder / "packages", Path(work), made)
            os.replace(made, folder / _key())
        image = find(folder)
        assert image is not None, "just built"
        return image


def _key() -> str:
    """Return a name for all that the image is made from.

    Of Debian's packages only the names are in it: the newest are taken when it is built.
    """
    digest = hashlib.sha256()
    for file in (*_SOURCES, *sorted(root.GUEST.iterdir())):
        digest.update(file.read_bytes())
    for distribution in dependencies.distributions():
        digest.update(f"{distribution.name} {distribution.version} {root.PYTHON}\n".encode())
    return f"image-{digest.hexdigest()[:16]}"


def _build(downloads: Path, work: Path, made: Path) -> None:
    debian = packages.fetch_with_dependencies(downloads / "debian", root.PACKAGES)
    kernel = work / "kernel"
    kernel.mkdir()
    for package in packages.fetch(downloads):
        logger.info("unpacking %s", package.name)
        packages.unpack(package, kernel)
    modules = ModuleTree(only_one(kernel, "*/modules/*", "usr/*/modules/*"))
    busybox = only_one(kernel, "bin/busybox", "usr/bin/busybox").read_bytes()
    shutil.copyfile(only_one(kernel, "boot/vmlinuz-*"), made / "vmlinuz")
    (made / "initrd.gz").write_bytes(_initrd(modules, busybox))

    logger.info("unpacking %d packages", len(debian))
    tree = work / "root"
    tree.mkdir()
    root.make(tree, debian, modules)
    logger.info("packing the disk")
    _pack(tree, made / "root.erofs")


def _initrd(modules: ModuleTree, busybox: bytes) -> bytes:
    archive = Archive()
    for name in ("bin", "dev", "lower", "modules", "proc", "root", "upper"):
        archive.add_folder(name)
    archive.add_file("bin/busybox", busybox, executable=True)
    program = (root.GUEST / "initramfs.sh").read_bytes()
    archive.add_file("init", program, executable=True)
    for number, (name, content) in enumerate(modules.load_order(_DISK_MODULES)):
        archive.add_file(f"modules/{number:02}-{name}.ko", content)
    return archive.compressed()


def _pack(tree: Path, disk: Path) -> None:
    command = ["mkfs.erofs", "--quiet", "-zlz4", "--all-root", "-T0", str(disk), str(tree)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_PACK_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise LabError(f"mkfs.erofs failed: {done.stderr.strip()}")


def main() -> int:
    """Build, and say where the image is."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        image = build(default_folder())
    except LabError as error:
        sys.stderr.write(f"error: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    sys.stdout.write(f"{image.root}\n")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
