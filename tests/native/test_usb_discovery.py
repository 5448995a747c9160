"""Discovery and hot-plug with the real libudev and libusb, on devices of umockdev."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubectl_vmredir.usb.descriptors import MAX_TEXT
from tests.support.usb_testbed import play, play_recorded

pytestmark = pytest.mark.native

RECORDINGS = Path(__file__).parent.parent / "data/usb"

# Recorded from Debian's kernel 6.1: devices of QEMU, and gadgets of configfs.
RECORDED = [
    ("audio", "46f4:0002", "full", "audio", ["snd-usb-audio"] * 2),
    ("ccid", "08e6:4433", "full", "smartcard", [""]),
    ("composite-acm-msc", "1d6b:0104", "high", "serial", ["cdc_acm", "cdc_acm", "usb-storage"]),
    ("fido-hid", "1050:0120", "high", "security key", ["usbhid"]),
    ("kbd", "0627:0001", "high", "keyboard", ["usbhid"]),
    ("mtp", "46f4:0004", "high", "media", [""]),
    ("net", "0525:a4a2", "full", "network", ["cdc_ether"] * 2),
    ("printer", "04b8:0005", "high", "printer", ["usblp"]),
    ("serial", "0403:6001", "full", "serial", ["ftdi_sio"]),
    ("storage", "46f4:0001", "super", "storage", ["usb-storage"]),
    ("tablet", "0627:0001", "high", "mouse", ["usbhid"]),
]


def ids_of(device: dict[str, Any]) -> str:
    return f"{device['ids']['vendor_id']:04x}:{device['ids']['product_id']:04x}"


@pytest.mark.parametrize(("name", "ids", "speed", "kind", "drivers"), RECORDED)
def test_recorded_device_is_listed(
    name: str, ids: str, speed: str, kind: str, drivers: list[str]
) -> None:
    found: Any = play_recorded(RECORDINGS / f"{name}.umockdev", "recorded")

    assert [
        (ids_of(each["device"]), each["device"]["speed"], each["kind"], each["drivers"])
        for each in found
    ] == [(ids, speed, kind, drivers)]


def test_a_recorded_stick_is_listed_with_all_that_is_known() -> None:
    found: Any = play_recorded(RECORDINGS / "storage.umockdev", "recorded")

    assert found[0]["device"] == {
        "ids": {"vendor_id": 0x46F4, "product_id": 1},
        "bus": 2,
        "address": 2,
        "port_path": "2-1",
        "serial": "SER123",
        "manufacturer": "QEMU",
        "product": "QEMU USB HARDDRIVE",
        "speed": "super",
        "classes": [{"base": 8, "sub": 6, "protocol": 80}],
        "node": "/dev/bus/usb/002/002",
        "virtual": False,
        "word": "storage",
    }


def test_a_recorded_hub_is_not_offered() -> None:
    assert play_recorded(RECORDINGS / "hub.umockdev", "recorded") == []


def test_a_bus_with_hubs_alone_has_no_devices() -> None:
    assert play("empty") == []


def test_twins_are_two_devices_by_port() -> None:
    found: Any = play("twins")

    assert [(device["port_path"], device["serial"]) for device in found] == [
        ("1-9", "TWIN2"),
        ("1-10", "TWIN1"),
    ]


def test_odd_devices_hide_no_others() -> None:
    found: Any = play("odd")

    assert [(device["port_path"], device["word"], device["speed"]) for device in found] == [
        ("1-1", "other", "high"),
        ("1-2", "storage", "unknown"),
        ("1-4", "storage", "high"),
    ]
    assert found[1]["serial"] == '";$(id)'
    assert found[2]["product"] == "p" * MAX_TEXT


def test_a_device_that_does_not_tell_its_texts_is_listed_without_them() -> None:
    found: Any = play("silent")

    assert [(device["product"], device["manufacturer"], device["serial"]) for device in found] == [
        ("Stick", "", None)
    ]


@pytest.mark.parametrize("source", ["kernel", "udev"])
def test_plugs_are_announced_and_our_own_claims_are_not(source: str) -> None:
    assert play("hotplug", source) == [
        ["OLD", "NEW"],
        ["OLD", "NEW", "LATER"],
        ["OLD", "LATER"],
        ["OLD", "NEW", "LATER"],
    ]
