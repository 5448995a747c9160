"""Trouble that nodes make when they are asked to.

A node reads its faults from the annotation ``lab.vmredir.io/faults`` of its Node object, for
instance ``full-slots,slow-flip=5``, and says in ``lab.vmredir.io/faults-active`` which it makes: so
faults need no channel of their own, and work on nodes in other processes, and from kubectl. A node
that is not to be scheduled on is cordoned (``spec.unschedulable``), as anywhere. Faults of the API
server are lab/api/faults.py.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

FAULTS: Final = "lab.vmredir.io/faults"
FAULTS_ACTIVE: Final = "lab.vmredir.io/faults-active"


class Fault(enum.StrEnum):
    """What a node can do wrong; some take a number."""

    SLOW_FLIP = "slow-flip"
    """As target: status.nodeName changes so many seconds later."""
    FAILED_MIGRATION = "failed-migration"
    """As source: the target's guest dies in the middle of the copy."""
    FULL_SLOTS = "full-slots"
    """Each dial of usbredir is refused, as if all four slots were taken."""
    GHOST_SLOT = "ghost-slot"
    """A slot stays taken when its client goes, as long as the fault lasts."""
    SILENT_BACKLOG = "silent-backlog"
    """Somebody else holds the socket of each slot that is handed out: the stream is silent."""
    RST_AFTER_101 = "rst-after-101"
    """Each stream is reset right after its handshake."""
    SLOW_NETWORK = "slow-network"
    """Streams carry so many bytes per second each way, and no more."""
    HANDLER_DOWN = "handler-down"
    """Its virt-handler does not run: streams are cut, dials refused; guests go on."""
    HANG = "hang"
    """Streams carry nothing, dials are not answered, as if the node had been stopped."""

    @property
    def takes_number(self) -> bool:
        """Whether a number belongs to it."""
        return self in (Fault.SLOW_FLIP, Fault.SLOW_NETWORK)


@dataclass(frozen=True, slots=True)
class NodeFaults:
    """The faults of one node.

    Attributes:
        active: Faults by name, with their number; 0 for those that take none.
    """

    active: Mapping[Fault, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the annotation.

        Raises:
            ValueError: If there is a fault that does not exist, or a number wrong or missing.
        """
        active: dict[Fault, float] = {}
        for word in filter(None, (part.strip() for part in text.split(","))):
            name, equals, number = word.partition("=")
            fault = Fault(name)
            if fault.takes_number != bool(equals):
                raise ValueError(f"fault {word!r}: number missing, or too much")
            active[fault] = float(number) if equals else 0.0
            if not (math.isfinite(active[fault]) and active[fault] >= 0):
                raise ValueError(f"fault {word!r}: not such a number")
        return cls(active)

    def __str__(self) -> str:
        return ",".join(
            f"{fault}={number:g}" if fault.takes_number else str(fault)
            for fault, number in self.active.items()
        )

    def __contains__(self, fault: Fault) -> bool:
        return fault in self.active

    def with_fault(self, fault: Fault, number: float = 0.0) -> Self:
        """Return these faults and one more."""
        return type(self)({**self.active, fault: number})

    def without(self, fault: Fault) -> Self:
        """Return these faults less one."""
        return type(self)({other: n for other, n in self.active.items() if other is not fault})

    @property
    def flip_delay_s(self) -> float:
        """How much later nodeName changes, in seconds."""
        return self.active.get(Fault.SLOW_FLIP, 0.0)

    @property
    def bytes_per_s(self) -> float:
        """What a stream carries each way; infinite without the fault."""
        return self.active.get(Fault.SLOW_NETWORK, math.inf)
