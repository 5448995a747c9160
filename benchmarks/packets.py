"""What our own code costs per packet: span tracker, guard and continuity, without any I/O."""

from __future__ import annotations

from dataclasses import dataclass
from time import process_time
from typing import TYPE_CHECKING, Final

from benchmarks.traffic import (
    BULK_SIZE,
    FROM_DEVICE,
    SMALL_SIZE,
    TO_DEVICE,
    Load,
    hello,
    introduction,
)
from kubectl_vmredir.continuity.events import GuestBytes, HostBytes, LinkOpened
from kubectl_vmredir.continuity.machine import ContinuityMachine
from kubectl_vmredir.service.usbhost import READ_BUFFER_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

_IN_FLIGHT: Final = 64
_REPEATS: Final = 25


@dataclass(frozen=True, slots=True)
class PacketCost:
    """What a packet costs, request and answer counted as two.

    Attributes:
        direction: Where the data goes.
        size: Data of a transfer, in bytes.
        alone_us: CPU time if each packet comes as a chunk of its own.
        together_us: CPU time if as much comes as is read at once.
    """

    direction: str
    size: int
    alone_us: float
    together_us: float


def packet_costs() -> Sequence[PacketCost]:
    """Measure all; takes a second or two."""
    return [
        _cost(Load(load.name, load.endpoint, size, _IN_FLIGHT))
        for load in (FROM_DEVICE, TO_DEVICE)
        for size in (SMALL_SIZE, BULK_SIZE)
    ]


def _cost(load: Load) -> PacketCost:
    alone = _measure(
        [memoryview(packet) for packet in load.requests],
        [memoryview(packet) for packet in load.answers],
    )
    together = _measure(_chunks(load.requests), _chunks(load.answers))
    return PacketCost(load.name, load.size, alone, together)


def _measure(requests: Sequence[memoryview], answers: Sequence[memoryview]) -> float:
    """Return microseconds of CPU time per packet, the least of many tries."""
    machine = ContinuityMachine()
    machine.handle(HostBytes(memoryview(hello("usb-host"))))
    machine.handle(LinkOpened())
    machine.handle(GuestBytes(memoryview(hello("usb-guest"))))
    machine.handle(HostBytes(memoryview(introduction())))
    assert machine.attached
    times = []
    for _ in range(_REPEATS):
        begun = process_time()
        for chunk in requests:
            machine.guest_bytes(chunk)
        assert machine.open_requests == _IN_FLIGHT
        for chunk in answers:
            machine.host_bytes(chunk)
        times.append(process_time() - begun)
        assert machine.open_requests == 0
    return min(times) / (2 * _IN_FLIGHT) * 1e6


def _chunks(packets: Sequence[bytes]) -> Sequence[memoryview]:
    stream = memoryview(b"".join(packets))
    return [
        stream[start : start + READ_BUFFER_BYTES]
        for start in range(0, len(stream), READ_BUFFER_BYTES)
    ]
