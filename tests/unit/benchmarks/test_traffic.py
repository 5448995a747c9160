from __future__ import annotations

import pytest

from benchmarks.traffic import LOADS, Load, Ring, hello, introduction
from kubectl_vmredir.continuity.events import GuestBytes, HostBytes, LinkOpened
from kubectl_vmredir.continuity.machine import ContinuityMachine


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.name)
def test_traffic_passes_all_checks_of_a_device_session(load: Load) -> None:
    machine = ContinuityMachine()
    machine.handle(HostBytes(memoryview(hello("usb-host"))))
    machine.handle(LinkOpened())
    machine.handle(GuestBytes(memoryview(hello("usb-guest"))))
    machine.handle(HostBytes(memoryview(introduction())))
    assert machine.attached

    for _ in range(2):
        assert machine.guest_bytes(memoryview(b"".join(load.requests))) is None
        assert machine.open_requests == load.in_flight
        assert machine.host_bytes(memoryview(b"".join(load.answers))) is None
        assert machine.open_requests == 0


def test_data_goes_one_way() -> None:
    sizes = {load.name: (len(load.requests[0]), len(load.answers[0])) for load in LOADS}

    assert sizes == {
        "from-device": (26, 26 + 65536),
        "to-device": (26 + 65536, 26),
        "round-trip": (26, 26 + 512),
    }


def test_ring_goes_round_without_an_end() -> None:
    ring = Ring([b"aa", b"bb", b"cc"])

    assert [bytes(ring.take(count)) for count in (2, 3, 1, 1)] == [
        b"aabb",
        b"ccaabb",
        b"cc",
        b"aa",
    ]
