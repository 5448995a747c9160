"""Finds kernel modules, and the order in which they can be loaded."""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_DEPENDS: Final = b"\0depends="


class ModuleTree:
    """The modules of one kernel package.

    Names are written with underscores, as lsmod does. Dependencies come from the modules
    themselves: ``modules.dep`` is made where a kernel is installed, and this one is not.

    Attributes:
        folder: Where they are; its name is the kernel's release, as ``uname -r`` says it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths = {
            path.name.partition(".ko")[0].replace("-", "_"): path
            for path in folder.rglob("*.ko*")
            if path.name.endswith((".ko", ".ko.xz"))
        }

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def load_order(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield the modules and all that they need, each once, in an order that loads.

        Raises:
            LabError: If the kernel has no such module.
        """
        done: set[str] = set()
        for name in names:
            yield from self._with_dependencies(name, done)

    def _with_dependencies(self, name: str, done: set[str]) -> Iterator[tuple[str, bytes]]:
        if name in done:
            return
        done.add(name)
        content = self._read(name)
        for needed in _dependencies(content):
            yield from self._with_dependencies(needed, done)
        yield name, content

    def _read(self, name: str) -> bytes:
        try:
            path = self._paths[name]
        except KeyError:
            raise LabError(f"the guest's kernel has no module {name}") from None
        content = path.read_bytes()
        return lzma.decompress(content) if path.suffix == ".xz" else content


def _dependencies(module: bytes) -> list[str]:
    """Read ``depends=`` of the section .modinfo: texts, each with a NUL behind it."""
    start = module.find(_DEPENDS)
    if start < 0:
        return []
    start += len(_DEPENDS)
    text = module[start : module.index(b"\0", start)].decode()
    return [name.replace("-", "_") for name in text.split(",") if name]
