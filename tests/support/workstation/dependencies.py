"""Copies what the program needs at run time out of this interpreter's environment."""

from __future__ import annotations

import importlib.metadata
import shutil
from importlib.metadata import Distribution
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from pathlib import Path

_PROJECT: Final = "kubectl-vmredir"


def distributions() -> list[Distribution]:
    """Return the distributions that the program depends on, without the program; by name."""
    found: dict[str, Distribution] = {}
    waiting = [importlib.metadata.distribution(_PROJECT)]
    while waiting:
        for text in waiting.pop().requires or ():
            requirement = Requirement(text)
            name = canonicalize_name(requirement.name)
            marker = requirement.marker
            if name not in found and (marker is None or marker.evaluate({"extra": ""})):
                found[name] = importlib.metadata.distribution(name)
                waiting.append(found[name])
    return [found[name] for name in sorted(found)]


def copy(distribution: Distribution, folder: Path) -> None:
    """Copy the modules of a distribution into a folder for modules; programs are left out."""
    for file in distribution.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue
        place = folder / file
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(distribution.locate_file(file)), place)
