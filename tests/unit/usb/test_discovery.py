from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from kubectl_vmredir.cli.output import printable
from kubectl_vmredir.errors import DeviceNotFound, UsbUnavailable
from kubectl_vmredir.model import DeviceSelector, LocalDevice, Speed, UsbClass, VendorProduct
from kubectl_vmredir.usb.descriptors import MAX_TEXT
from kubectl_vmredir.usb.discovery import open_udev, read_device, require_bus, sysfs_path
from tests.support.usb_machine import HID, MASS_STORAGE, UsbMachine

NODE = "/dev/bus/usb/001/004"
FIDO_REPORT = bytes.fromhex("06d0f1 0901 a101 c0")


@pytest.fixture
def machine(tmp_path: Path) -> UsbMachine:
    return UsbMachine(tmp_path)


def read(folder: Path) -> LocalDevice:
    device = read_device(folder, node=NODE)
    assert device is not None
    return device


def test_device_is_what_sysfs_says(machine: UsbMachine) -> None:
    folder = machine.plug(
        "1-4.2", address=4, manufacturer=b"ACME\n", product=b"Stick\n", serial=b"S1\n"
    )

    assert read(folder) == LocalDevice(
        ids=VendorProduct(0x1234, 0x5678),
        bus=1,
        address=4,
        port_path="1-4.2",
        serial="S1",
        manufacturer="ACME",
        product="Stick",
        speed=Speed.HIGH,
        classes=(MASS_STORAGE,),
        node=NODE,
    )


def test_device_without_texts_has_none(machine: UsbMachine) -> None:
    device = read(machine.plug())

    assert device.serial is None
    assert (device.manufacturer, device.product) == ("", "")


@pytest.mark.parametrize(
    ("speed", "expected"),
    [
        (b"1.5\n", Speed.LOW),
        (b"12\n", Speed.FULL),
        (b"10000\n", Speed.SUPER),
        (b"unknown\n", Speed.UNKNOWN),
    ],
)
def test_speed(machine: UsbMachine, speed: bytes, expected: Speed) -> None:
    folder = machine.plug()
    (folder / "speed").write_bytes(speed)

    assert read(folder).speed is expected


def test_a_hub_is_not_offered(machine: UsbMachine) -> None:
    assert read_device(machine.plug(classes=[UsbClass(9, 0, 0)]), node=NODE) is None


def test_a_device_with_a_hub_in_it_is_not_offered(machine: UsbMachine) -> None:
    folder = machine.plug(classes=[MASS_STORAGE, UsbClass(9, 0, 0)])

    assert read_device(folder, node=NODE) is None


@pytest.mark.parametrize("name", ["descriptors", "idVendor", "busnum", "devnum", "speed"])
def test_a_device_that_is_just_going_is_left_out(machine: UsbMachine, name: str) -> None:
    folder = machine.plug()
    (folder / name).unlink()

    assert read_device(folder, node=NODE) is None


def test_an_attribute_that_is_empty_while_the_device_goes_leaves_it_out(
    machine: UsbMachine,
) -> None:
    folder = machine.plug()
    (folder / "devnum").write_bytes(b"")

    assert read_device(folder, node=NODE) is None


# -- untrusted texts --------------------------------------------------------------------------


def test_hostile_serial_number_is_kept_as_data_and_shown_escaped(machine: UsbMachine) -> None:
    device = read(machine.plug(serial=b'";$(id)\n\n'))

    assert device.serial == '";$(id)\n'
    assert printable(device.serial) == '";$(id)\\n'
    assert str(DeviceSelector.of(device)) == "port:1-4"


def test_control_characters_and_markup_are_data(machine: UsbMachine) -> None:
    device = read(machine.plug(product=b"\x1b[31m[bold]x[/bold]\x07\n"))

    assert device.product == "\x1b[31m[bold]x[/bold]\x07"
    assert printable(device.product) == "\\x1b[31m[bold]x[/bold]\\x07"


def test_long_text_is_cut(machine: UsbMachine) -> None:
    assert read(machine.plug(product=b"x" * 10_000 + b"\n")).product == "x" * MAX_TEXT


def test_text_that_is_no_utf8_can_be_written(machine: UsbMachine) -> None:
    product = read(machine.plug(product=b"\xff\xed\xa0\x80ok\n")).product

    assert product.endswith("ok")
    product.encode()


# -- the word ---------------------------------------------------------------------------------


def test_security_key_is_known_by_its_report_descriptor(machine: UsbMachine) -> None:
    folder = machine.plug(classes=[HID], drivers=["usbhid"])
    hid = machine.make(folder / "1-4:1.0/0003:1234:5678.0001", "hid")
    (hid / "report_descriptor").write_bytes(FIDO_REPORT)

    assert read(folder).kind == "security key"


def test_word_follows_what_drivers_made_of_it(machine: UsbMachine) -> None:
    folder = machine.plug(classes=[UsbClass(255, 0, 0)], drivers=["odd"])
    machine.make(folder / "1-4:1.0/net/eth1", "net")

    assert read(folder).kind == "network"


def test_word_follows_udev(machine: UsbMachine) -> None:
    device = read_device(machine.plug(classes=[HID]), node=NODE, properties={"ID_FIDO_TOKEN"})

    assert device is not None
    assert device.kind == "security key"


def test_a_device_is_the_same_while_its_drivers_are_gone(machine: UsbMachine) -> None:
    folder = machine.plug(classes=[HID], drivers=["usbhid"])
    hid = machine.make(folder / "1-4:1.0/0003:1234:5678.0001", "hid")
    (hid / "report_descriptor").write_bytes(FIDO_REPORT)
    before = read(folder)

    shutil.rmtree(folder / "1-4:1.0")
    after = read(folder)

    assert (before.kind, after.kind) == ("security key", "input")
    assert (before, hash(before)) == (after, hash(after))


def test_missing_text_of_a_device_that_cannot_be_opened_is_empty(machine: UsbMachine) -> None:
    folder = machine.plug(strings=b"\x01\x02\x03", product=b"Stick\n")

    device = read_device(folder, node=str(machine.root / "no-node"))

    assert device is not None
    assert (device.manufacturer, device.product, device.serial) == ("", "Stick", None)


# -- its folder -------------------------------------------------------------------------------


def test_folder_of_a_device_is_the_real_one(machine: UsbMachine) -> None:
    folder = machine.plug()

    assert sysfs_path(read(folder), root=machine.root) == folder


@pytest.mark.parametrize("change", [{"address": 5}, {"bus": 2}, {"port_path": "1-5"}])
def test_another_device_in_the_port_is_not_taken_for_it(
    machine: UsbMachine, change: dict[str, object]
) -> None:
    device = dataclasses.replace(read(machine.plug()), **change)  # type: ignore[arg-type]

    with pytest.raises(DeviceNotFound):
        sysfs_path(device, root=machine.root)


def test_virtual_device_has_no_folder(machine: UsbMachine) -> None:
    device = dataclasses.replace(read(machine.plug()), virtual=True)

    with pytest.raises(DeviceNotFound):
        sysfs_path(device, root=machine.root)


# -- no USB here ------------------------------------------------------------------------------


def test_machine_without_a_usb_bus_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UsbUnavailable, match="this machine has no USB bus") as caught:
        require_bus(tmp_path)
    assert caught.value.hint is not None
    assert "modprobe usbcore" in caught.value.hint


def test_missing_libudev_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyudev._ctypeslib.utils.find_library", lambda _: None)

    with pytest.raises(UsbUnavailable, match="libudev is missing"):
        open_udev()
