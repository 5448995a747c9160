from __future__ import annotations

import pytest

from kubectl_vmredir.model import UsbClass, VendorProduct
from kubectl_vmredir.usb.kinds import Clues, word

NOBODY = VendorProduct(0x1234, 0x5678)

CDC_DATA = UsbClass(10, 0, 0)
HID = UsbClass(3, 0, 0)
KEYBOARD = UsbClass(3, 1, 1)
MOUSE = UsbClass(3, 1, 2)
STORAGE = UsbClass(8, 6, 80)
SMARTCARD = UsbClass(11, 0, 0)
VENDOR = UsbClass(255, 255, 255)

CLASSES = [
    pytest.param([STORAGE], "storage", id="stick"),
    pytest.param([UsbClass(8, 6, 98)], "storage", id="uas"),
    pytest.param([KEYBOARD], "keyboard", id="keyboard"),
    pytest.param([MOUSE], "mouse", id="mouse"),
    pytest.param([HID], "input", id="gamepad"),
    pytest.param([SMARTCARD], "smartcard", id="ccid"),
    pytest.param([UsbClass(1, 1, 0), UsbClass(1, 2, 0), HID], "audio", id="headset"),
    pytest.param(
        [UsbClass(14, 1, 0), UsbClass(14, 2, 0), UsbClass(1, 1, 0)], "camera", id="webcam"
    ),
    pytest.param([UsbClass(6, 1, 1)], "camera", id="still-camera"),
    pytest.param([UsbClass(2, 2, 1), CDC_DATA], "serial", id="cdc-acm"),
    pytest.param([UsbClass(2, 6, 0), CDC_DATA], "network", id="cdc-ethernet"),
    pytest.param([UsbClass(2, 13, 0), CDC_DATA], "network", id="cdc-ncm"),
    pytest.param([UsbClass(2, 14, 0), CDC_DATA], "network", id="cdc-mbim"),
    pytest.param([UsbClass(2, 2, 255), CDC_DATA], "network", id="rndis"),
    pytest.param([UsbClass(224, 1, 3), CDC_DATA], "network", id="rndis-of-a-phone"),
    pytest.param([UsbClass(7, 1, 2), STORAGE], "printer", id="printer-with-card-reader"),
    pytest.param([UsbClass(224, 1, 1), UsbClass(224, 1, 1)], "wireless", id="bluetooth"),
    pytest.param([UsbClass(255, 0x42, 1)], "phone", id="adb"),
    pytest.param([UsbClass(6, 1, 1), UsbClass(255, 254, 2)], "phone", id="iphone"),
    pytest.param([UsbClass(2, 2, 1), CDC_DATA, STORAGE], "serial", id="board-with-a-disk"),
    pytest.param([KEYBOARD, MOUSE, HID], "keyboard", id="receiver-of-a-keyboard"),
    pytest.param([MOUSE, KEYBOARD], "mouse", id="gaming-mouse"),
    pytest.param([KEYBOARD, SMARTCARD], "smartcard", id="keyboard-with-reader"),
    pytest.param([VENDOR], "other", id="unknown"),
    pytest.param([], "other", id="unconfigured"),
]


@pytest.mark.parametrize(("classes", "expected"), CLASSES)
def test_word_of_classes(classes: list[UsbClass], expected: str) -> None:
    assert word(NOBODY, classes) == expected


@pytest.mark.parametrize(
    "ids", ["0403:6001", "0403:6015", "10c4:ea60", "1a86:7523", "067b:2303", "4348:5523"]
)
def test_serial_adapters_are_known_by_their_ids(ids: str) -> None:
    assert word(VendorProduct.parse(ids), [VENDOR]) == "serial"


def test_an_id_alone_makes_no_serial_adapter() -> None:
    assert word(VendorProduct(0x0403, 0x1234), [STORAGE]) == "storage"


def test_another_product_of_the_vendor_is_no_serial_adapter() -> None:
    assert word(VendorProduct(0x1A86, 0x5512), [VENDOR]) == "other"


def test_ethernet_adapters_are_known_by_their_ids() -> None:
    assert word(VendorProduct(0x0BDA, 0x8153), [UsbClass(255, 255, 0)]) == "network"


def test_fido_usage_makes_a_security_key() -> None:
    assert word(NOBODY, [HID], Clues(usages=((0xF1D0, 1),))) == "security key"


@pytest.mark.parametrize("name", ["ID_FIDO_TOKEN", "ID_SECURITY_TOKEN"])
def test_udev_knows_security_keys(name: str) -> None:
    assert word(NOBODY, [HID], Clues(properties=frozenset({name}))) == "security key"


def test_security_key_without_its_driver_is_known_by_its_vendor() -> None:
    assert word(VendorProduct(0x1050, 0x0407), [KEYBOARD, HID, SMARTCARD]) == "security key"


def test_yubikey_that_only_types_is_a_keyboard() -> None:
    assert word(VendorProduct(0x1050, 0x0010), [KEYBOARD]) == "keyboard"


@pytest.mark.parametrize(("usage", "expected"), [(2, "mouse"), (6, "keyboard"), (5, "input")])
def test_usages_say_what_plain_hid_is(usage: int, expected: str) -> None:
    assert word(NOBODY, [HID], Clues(usages=((1, usage),))) == expected


def test_the_boot_interface_counts_more_than_usages() -> None:
    assert word(NOBODY, [MOUSE, HID], Clues(usages=((1, 6), (1, 2)))) == "mouse"


@pytest.mark.parametrize(
    ("subsystem", "expected"),
    [("net", "network"), ("tty", "serial"), ("video4linux", "camera"), ("usbmisc", "other")],
)
def test_drivers_say_what_a_vendor_specific_device_is(subsystem: str, expected: str) -> None:
    assert word(NOBODY, [VENDOR], Clues(subsystems=frozenset({subsystem, "usb"}))) == expected


def test_mtp_is_known_by_the_name_of_its_interface() -> None:
    clues = Clues(interfaces=frozenset({"MTP"}))

    assert word(NOBODY, [UsbClass(6, 1, 1)], clues) == "media"
    assert word(NOBODY, [UsbClass(255, 255, 0)], clues) == "media"


def test_reader_of_a_vendor_is_known_by_udev() -> None:
    clues = Clues(properties=frozenset({"ID_SMARTCARD_READER", "ID_BUS"}))

    assert word(NOBODY, [VENDOR], clues) == "smartcard"
