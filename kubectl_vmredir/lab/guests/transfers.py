"""Transfers as a guest's controller asks for them, and how they end."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kubectl_vmredir.protocol.constants import INPUT


@dataclass(frozen=True, slots=True)
class Setup:
    """A control transfer; USB 2.0 section 9.3."""

    request_type: int
    request: int
    value: int = 0
    index: int = 0
    length: int = 0
    data: bytes = b""

    @property
    def endpoint(self) -> int:
        """Where it goes: 0x00, or 0x80 if it reads."""
        return self.request_type & INPUT


@dataclass(frozen=True, slots=True)
class Bulk:
    """A bulk transfer: of ``data``, or of up to ``length`` bytes from the device."""

    endpoint: int
    length: int
    data: bytes = b""


Transfer = Setup | Bulk


class Outcome(enum.StrEnum):
    """How a transfer ended, as the guest's controller says it."""

    SUCCESS = "success"
    STALL = "stall"
    BABBLE = "babble"
    IOERROR = "ioerror"
    TIMEOUT = "timeout"
    """The guest's driver has cancelled it."""
