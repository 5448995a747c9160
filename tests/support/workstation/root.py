"""Makes the root file system of the workstation VM, as a tree of files of this user."""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab.guests.image import packages
from tests.support.workstation import dependencies

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubectl_vmredir.lab.guests.image.modules import ModuleTree

GUEST: Final = Path(__file__).parent / "guest"
"""Files of ours."""

PYTHON: Final = f"python3.{sys.version_info.minor}"
"""Ours, since the VM gets the compiled parts of our environment."""

PROGRAM_FOLDER: Final = "/usr/lib/python3/dist-packages/kubectl_vmredir"
"""Where the program is mounted: among the modules that Debian's Python finds."""

PACKAGES: Final = (
    "base-files", "base-passwd", "usr-is-merged",
    "bash", "dash", "coreutils", "grep", "sed", "mawk", "findutils", "hostname",
    "util-linux", "mount", "procps", "kmod", "udev", "iproute2", "libc-bin",
    PYTHON, "libusb-1.0-0", "libusbredirhost1", "libusbredirparser1",
    "pcscd", "libccid", "alsa-utils", "dosfstools",
)  # fmt: skip

BOOT_MODULES: Final = (
    "virtio_console", "virtio_net", "9p", "9pnet_virtio",
    "xhci_pci", "usb_storage", "sd_mod", "usbhid", "hid_generic", "evdev", "ftdi_sio",
    "cdc_acm", "snd_usb_audio", "vfat", "nls_cp437", "nls_ascii",
)  # fmt: skip
"""Loaded before the state of the VM is saved."""

MODULES: Final = (
    "crct10dif_generic", "crc64_rocksoft_generic", "uas", "cdc_ether",
    "dummy_hcd", "libcomposite", "usb_f_hid", "usb_f_acm", "usb_f_mass_storage", "usb_f_printer",
    "usblp",
)  # fmt: skip
"""Loaded when somebody wants them."""

_LINKS: Final = {
    "usr/bin/sh": "dash",
    "usr/bin/awk": "mawk",
    "usr/bin/python3": PYTHON,
    "etc/mtab": "/proc/self/mounts",
}
_FILES: Final = {
    "init.sh": "usr/sbin/init",
    "agent.py": "usr/local/lib/vmredir/agent.py",
    "kubectl-vmredir": "usr/local/bin/kubectl-vmredir",
    "70-vmredir.rules": "etc/udev/rules.d/70-vmredir.rules",
}
_MERGED: Final = ("bin", "sbin", "lib", "lib64")
_LEFT_OUT: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/i18n")
_USER: Final = "user:x:1000:1000::/home/user:/bin/bash\n"
_GROUP: Final = "user:x:1000:\n"


def make(root: Path, debian: Iterable[Path], modules: ModuleTree) -> None:
    """Fill an empty folder.

    Args:
        root: The folder.
        debian: Packages to unpack.
        modules: Of the kernel.
    """
    for package in debian:
        packages.unpack(package, root)
    for name in _LEFT_OUT:
        shutil.rmtree(root / name, ignore_errors=True)
    _merge_usr(root)
    _write_accounts(root)
    _copy_modules(root / "usr/lib/modules" / modules.folder.name, modules)
    (root / "etc/modules").write_text("\n".join(BOOT_MODULES) + "\n")
    for name, target in _LINKS.items():
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)
    for name, target in _FILES.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(GUEST / name, root / target)
        (root / target).chmod(0o755)
    program = root / PROGRAM_FOLDER.lstrip("/")
    program.mkdir(parents=True)
    for distribution in dependencies.distributions():
        dependencies.copy(distribution, program.parent)
    _compile(root, [program.parent, root / "usr/lib" / PYTHON])


def _merge_usr(root: Path) -> None:
    """Make /bin and the like links into /usr, as the package usrmerge does."""
    for name in _MERGED:
        old, new = root / name, root / "usr" / name
        if old.is_symlink():
            continue
        new.mkdir(exist_ok=True)
        if old.exists():
            shutil.copytree(old, new, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(old)
        old.symlink_to(f"usr/{name}")


def _write_accounts(root: Path) -> None:
    masters = root / "usr/share/base-passwd"
    (root / "etc/passwd").write_text((masters / "passwd.master").read_text() + _USER)
    (root / "etc/group").write_text((masters / "group.master").read_text() + _GROUP)


def _copy_modules(folder: Path, modules: ModuleTree) -> None:
    folder.mkdir(parents=True)
    for name, content in modules.load_order([*BOOT_MODULES, *MODULES]):
        (folder / f"{name}.ko").write_bytes(content)
    for about in modules.folder.glob("modules.[bo]*"):  # builtin, builtin.modinfo, order
        shutil.copyfile(about, folder / about.name)


def _compile(root: Path, folders: Sequence[Path]) -> None:
    for folder in folders:
        # Never compared with their sources: those get other times in the image.
        compileall.compile_dir(
            folder,
            quiet=2,
            workers=os.cpu_count() or 1,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            stripdir=str(root),
            prependdir="/",
        )
