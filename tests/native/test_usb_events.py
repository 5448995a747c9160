"""The netlink socket on which udev's events come, with the real libudev and kernel."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path

import pytest

from kubectl_vmredir.errors import UsbUnavailable
from kubectl_vmredir.usb.hotplug import UdevEvents
from tests.support.usb_machine import UsbMachine

pytestmark = pytest.mark.native

KERNEL_EVENTS = (0, 1)  # port id of the kernel; multicast group of its uevents
SMALL = 4096
FLOOD = 100


@pytest.fixture
def events(tmp_path: Path) -> UdevEvents:
    events = UdevEvents(UsbMachine(tmp_path).root)
    with socket.socket(fileno=os.dup(events.fileno())) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    return events


def trouble(events: UdevEvents) -> bool:
    poll = select.poll()
    poll.register(events, 0)
    return bool(poll.poll(0))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may send on the kernel's behalf")
def test_lost_events_are_no_error_and_listening_goes_on(events: UdevEvents) -> None:
    message = b"add@/devices/x\0ACTION=add\0SUBSYSTEM=usb\0DEVPATH=/devices/x\0".ljust(1500, b"x")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as sender:  # KOBJECT_UEVENT
        for _ in range(FLOOD):
            sender.sendto(message, KERNEL_EVENTS)
    assert trouble(events)

    events.drain()

    assert not trouble(events)


def test_nothing_to_drain_is_no_error(events: UdevEvents) -> None:
    events.drain()


def test_a_machine_without_a_usb_bus_is_not_listened_to(tmp_path: Path) -> None:
    with pytest.raises(UsbUnavailable, match="no USB bus"):
        UdevEvents(tmp_path)
