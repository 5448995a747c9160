"""Values shared by all parts."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import pytest

from kubectl_vmredir.model import (
    DeviceSelector,
    LocalDevice,
    Speed,
    UsbClass,
    VendorProduct,
    VmiRef,
    to_json,
)

STICK = LocalDevice(
    ids=VendorProduct(0x0951, 0x1666),
    bus=3,
    address=11,
    port_path="3-1.4",
    serial="FLASH001",
    manufacturer="Kingston",
    product="DataTraveler",
    speed=Speed.HIGH,
    classes=(UsbClass(8, 6, 0x50),),
)


def test_ids_read_what_they_write() -> None:
    assert VendorProduct.parse(str(STICK.ids)) == STICK.ids


@pytest.mark.parametrize("text", ["", "0951", "0951:16666", "g951:1666", "0951:1666 "])
def test_other_ids_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected vvvv:pppp"):
        VendorProduct.parse(text)


@pytest.mark.parametrize("text", ["0951:1666", "0951:1666:FLASH001", "3-11", "port:3-1.4"])
def test_each_form_of_a_selector_matches_its_device_and_writes_itself(text: str) -> None:
    selector = DeviceSelector.parse(text)

    assert selector.matches(STICK)
    assert str(selector) == text


@pytest.mark.parametrize("text", ["0951:1667", "0951:1666:FLASH002", "3-12", "port:3-1"])
def test_a_selector_matches_nothing_else(text: str) -> None:
    assert not DeviceSelector.parse(text).matches(STICK)


def test_a_device_is_named_by_its_serial() -> None:
    assert str(DeviceSelector.of(STICK)) == "0951:1666:FLASH001"


@pytest.mark.parametrize("serial", [None, '";$(id)\n', "a b", "x" * 65, ""])
def test_a_serial_that_is_not_plain_never_enters_a_selector(serial: str | None) -> None:
    device = LocalDevice(
        STICK.ids, 3, 11, "3-1.4", serial, "", "", Speed.HIGH, (UsbClass(8, 6, 0x50),)
    )

    assert str(DeviceSelector.of(device)) == "port:3-1.4"


@pytest.mark.parametrize(
    ("usb_class", "kind"),
    [
        (UsbClass(3, 1, 1), "keyboard"),
        (UsbClass(3, 1, 2), "mouse"),
        (UsbClass(3, 0, 0), "input"),
        (UsbClass(8, 6, 0x50), "storage"),
        (UsbClass(11, 0, 0), "smartcard"),
        (UsbClass(255, 0, 0), "other"),
    ],
)
def test_a_device_has_a_word_for_what_it_is(usb_class: UsbClass, kind: str) -> None:
    device = LocalDevice(STICK.ids, 1, 1, "1-1", None, "", "", Speed.FULL, (usb_class,))

    assert device.kind == kind


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Box:
    ref: VmiRef
    colours: tuple[Colour, ...]
    by_name: dict[str, int]


def test_dataclasses_enums_and_mappings_have_a_json_form() -> None:
    box = Box(VmiRef("demo", "x"), (Colour.RED,), {"a": 1})

    assert to_json(box) == {
        "ref": {"namespace": "demo", "name": "x"},
        "colours": ["red"],
        "by_name": {"a": 1},
    }


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="no JSON form for object"):
        to_json(object())
