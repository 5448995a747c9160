"""Which guests a lab runs: simulated ones, or real QEMU."""

from __future__ import annotations

import enum
import shutil
from typing import TYPE_CHECKING

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.guests.image import build
from kubectl_vmredir.lab.guests.qemu import QemuHypervisor
from kubectl_vmredir.lab.guests.qemu_domain import PROGRAM
from kubectl_vmredir.lab.guests.sim import SimHypervisor

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from kubectl_vmredir.lab.guests.domain import Hypervisor


class Backend(enum.StrEnum):
    """What a guest is."""

    SIM = "sim"
    """A guest in Python, which behaves as QEMU and a kernel do."""
    QEMU = "qemu"
    """A Debian kernel in QEMU."""

    @classmethod
    def best(cls) -> Backend:
        """Return QEMU where it and the guest image are there, else the simulation."""
        try:
            require(cls.QEMU)
        except LabError:
            return cls.SIM
        return cls.QEMU


def require(backend: Backend) -> None:
    """Check that there is what the guests need.

    Raises:
        LabError: If something is missing.
    """
    if backend is Backend.SIM:
        return
    if shutil.which(PROGRAM) is None:
        raise LabError(f"there is no {PROGRAM}", hint="Install it, or choose the simulation.")
    if build.find(build.default_folder()) is None:
        raise LabError("there is no guest image", hint="Build it with: make guest")


def hypervisor(backend: Backend) -> AbstractAsyncContextManager[Hypervisor]:
    """Return what makes guests; leaving the context destroys them.

    Raises:
        LabError: If there is no guest image.
    """
    if backend is Backend.SIM:
        return SimHypervisor()
    require(backend)
    image = build.find(build.default_folder())
    assert image is not None
    return QemuHypervisor(image)
