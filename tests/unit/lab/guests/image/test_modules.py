from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.guests.image.modules import ModuleTree


def module(folder: Path, name: str, depends: str | None, *, packed: bool = False) -> None:
    """Write a file that has what a module has in its section .modinfo."""
    content = b"\x7fELF license=GPL"
    if depends is not None:
        content += b"\0depends=" + depends.encode() + b"\0retpoline=Y\0"
    path = folder / "drivers" / f"{name}.ko{'.xz' if packed else ''}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(lzma.compress(content) if packed else content)


@pytest.fixture
def tree(tmp_path: Path) -> ModuleTree:
    module(tmp_path, "usb-common", "")
    module(tmp_path, "usbcore", "usb-common")
    module(tmp_path, "usb-storage", "usbcore,scsi_mod", packed=True)
    module(tmp_path, "scsi_mod", None)
    return ModuleTree(tmp_path)


def test_what_a_module_needs_comes_first_and_once(tree: ModuleTree) -> None:
    order = [name for name, _ in tree.load_order(["usbcore", "usb_storage"])]

    assert order == ["usb_common", "usbcore", "scsi_mod", "usb_storage"]


def test_compressed_modules_are_unpacked(tree: ModuleTree) -> None:
    modules = dict(tree.load_order(["usb_storage"]))

    assert modules["usb_storage"].startswith(b"\x7fELF")


def test_dashes_and_underscores_are_the_same(tree: ModuleTree) -> None:
    assert "usb_storage" in tree
    assert "uas" not in tree


def test_a_module_that_is_missing_is_named(tree: ModuleTree) -> None:
    with pytest.raises(LabError, match="no module xhci_pci"):
        list(tree.load_order(["xhci_pci"]))
