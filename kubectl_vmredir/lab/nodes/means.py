"""What a launcher has from its node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubectl_vmredir.lab.faults import NodeFaults
from kubectl_vmredir.lab.timeline import MIN_NODE_NAME_GAP_S, Dialect

if TYPE_CHECKING:
    from pathlib import Path

    from kubectl_vmredir.lab.cache import Cache
    from kubectl_vmredir.lab.clock import Clock
    from kubectl_vmredir.lab.guests.domain import Hypervisor
    from kubectl_vmredir.lab.nodes.writer import Writer


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How a node behaves.

    Attributes:
        dialect: Whose KubeVirt's.
        node_name_gap_s: From the end of the source's guest to the flip of nodeName, in seconds.
    """

    dialect: Dialect = Dialect.TARGET_ACKS
    node_name_gap_s: float = MIN_NODE_NAME_GAP_S

    def __post_init__(self) -> None:
        if self.node_name_gap_s < MIN_NODE_NAME_GAP_S:
            raise ValueError(f"the nodeName gap is at least {MIN_NODE_NAME_GAP_S} s")


@dataclass(slots=True)
class Means:
    """What a launcher has from its node.

    Attributes:
        node: Name of the node.
        folder: Where the node keeps the folders of its pods.
        hypervisor: Makes the guests.
        cache: What the node knows of the cluster.
        writer: How it changes objects.
        clock: The time it goes by.
        options: How it behaves.
        faults: What it does wrong just now.
    """

    node: str
    folder: Path
    hypervisor: Hypervisor
    cache: Cache
    writer: Writer
    clock: Clock
    options: NodeOptions
    faults: NodeFaults = field(default_factory=NodeFaults)
