"""Builds the guest's kernel and initrd once, and finds them again.

The folder holds ``vmlinuz``, ``initrd.gz`` and ``image.json``, which names what they were made
from; ``packages/`` keeps what was downloaded. The folder can be deleted at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.resources
import json
import logging
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.guests.image import packages
from kubectl_vmredir.lab.guests.image.cpio import Archive
from kubectl_vmredir.lab.guests.image.modules import ModuleTree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

logger = logging.getLogger(__name__)

CMDLINE: Final = (
    "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off nokaslr tsc=reliable audit=0"
)
"""What the kernel wants to be told; the annotation ``rig/append`` of the real control plane."""

_MODULES: Final = (
    # sd_mod asks for these two by what they do, which no dependency says: they come first.
    "crct10dif_generic", "crc64_rocksoft_generic",
    "xhci_pci", "sd_mod", "usb_storage", "uas", "usbhid", "hid_generic", "evdev", "cdc_acm",
    "ftdi_sio",
)  # fmt: skip
_OPTIONAL: Final = frozenset({"crct10dif_generic", "crc64_rocksoft_generic"})
"""Modules that other kernels have built in or do not need."""

_RECIPE: Final = 1
"""Bumped when this program makes another image from the same packages."""


@dataclass(frozen=True, slots=True)
class GuestImage:
    """What a VM boots.

    Attributes:
        kernel: The kernel.
        initrd: Its initramfs, with the guest program.
        digest: Changes whenever one of them does.
        root: A disk that nobody writes to, for a guest with more than its initramfs.
    """

    kernel: Path
    initrd: Path
    digest: str
    root: Path | None = None


def default_folder() -> Path:
    """Return where the image is kept for this user."""
    return platformdirs.user_cache_path("kubectl-vmredir") / "guest"


def find(folder: Path) -> GuestImage | None:
    """Return the image, if it was built by this version of the program."""
    try:
        about = json.loads((folder / "image.json").read_text())
    except (OSError, ValueError):
        return None
    match about:
        case {"recipe": str(recipe), "digest": str(digest)} if recipe == _recipe():
            return GuestImage(folder / "vmlinuz", folder / "initrd.gz", digest)
        case _:
            return None


def build(folder: Path) -> GuestImage:
    """Return the image; builds it first, if need be. Takes half a minute then, and a network.

    Only one process builds at a time; the others wait for it.

    Raises:
        LabError: If it cannot be built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if image := find(folder):
            return image
        with tempfile.TemporaryDirectory(dir=folder) as work:
            _build(folder, Path(work))
        image = find(folder)
        assert image is not None, "just built"
        return image


def _build(folder: Path, work: Path) -> None:
    downloaded = packages.fetch(folder / "packages")
    for package in downloaded:
        logger.info("unpacking %s", package.name)
        packages.unpack(package, work)
    kernel = only_one(work, "boot/vmlinuz-*")
    modules = ModuleTree(only_one(work, "*/modules/*", "usr/*/modules/*"))
    busybox = only_one(work, "bin/busybox", "usr/bin/busybox")
    initrd = _initrd(modules, busybox.read_bytes())
    digest = hashlib.sha256(kernel.read_bytes() + initrd).hexdigest()
    _write(folder / "initrd.gz", initrd)
    _write(folder / "vmlinuz", kernel.read_bytes())
    about = {
        "recipe": _recipe(),
        "digest": digest,
        "packages": [package.name for package in downloaded],
    }
    _write(folder / "image.json", json.dumps(about, indent=2).encode())
    shutil.rmtree(folder / "snapshots", ignore_errors=True)


def _initrd(modules: ModuleTree, busybox: bytes) -> bytes:
    archive = Archive()
    for name in ("bin", "dev", "modules", "proc", "run", "sys"):
        archive.add_folder(name)
    archive.add_file("bin/busybox", busybox, executable=True)
    archive.add_file("init", _program(), executable=True)
    wanted = [name for name in _MODULES if name in modules or name not in _OPTIONAL]
    for number, (name, content) in enumerate(modules.load_order(wanted)):
        archive.add_file(f"modules/{number:02}-{name}.ko", content)
    return archive.compressed()


def _program() -> bytes:
    return importlib.resources.files(__package__).joinpath("init.sh").read_bytes()


def _recipe() -> str:
    return f"{_RECIPE}-{hashlib.sha256(_program()).hexdigest()}"


def only_one(folder: Path, *patterns: str) -> Path:
    """Return the one file that matches any of the patterns.

    Raises:
        LabError: If there are none or several.
    """
    found: Sequence[Path] = [path for pattern in patterns for path in folder.glob(pattern)]
    if len(found) != 1:
        raise LabError(f"the packages hold {len(found)} files {patterns[0]}, not one")
    return found[0]


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    os.replace(new, path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder against others that build there."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
