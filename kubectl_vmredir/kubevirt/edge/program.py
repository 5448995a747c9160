"""The edge as data: what is copied into a launcher pod."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from kubectl_vmredir.errors import EdgeUnavailable
from kubectl_vmredir.kubevirt.edge.build import ARCHITECTURES, BINARIES


@dataclass(frozen=True, slots=True)
class EdgeProgram:
    """The edge, compiled for one architecture.

    Attributes:
        architecture: As ``uname -m`` says it.
        data: The whole program.
        sha256: Of the data, in hex.
    """

    architecture: str
    data: bytes
    sha256: str


def edge_program(architecture: str) -> EdgeProgram:
    """Return the edge for a machine; reads a file.

    Args:
        architecture: As ``uname -m`` says it there; untrusted.

    Raises:
        EdgeUnavailable: If there is none for it, or this installation was made without.
    """
    if architecture not in ARCHITECTURES:
        raise EdgeUnavailable(architecture[:16])
    try:
        data = (BINARIES / f"edge-{architecture}").read_bytes()
    except FileNotFoundError as exc:
        raise EdgeUnavailable(architecture) from exc
    return EdgeProgram(architecture, data, hashlib.sha256(data).hexdigest())
