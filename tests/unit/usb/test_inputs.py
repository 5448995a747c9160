"""The only keyboard and the only pointer of a machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kubectl_vmredir.usb.inputs import only_ones
from tests.support.machine_tree import (
    KEYBOARD_KEYS,
    MOUSE_KEYS,
    POWER_KEYS,
    TOUCHPAD_KEYS,
    TOUCHSCREEN_KEYS,
    VIRTUAL,
    MachineTree,
)

PS2 = "sys/devices/platform/i8042/serio0"
BLUETOOTH = f"{VIRTUAL}/misc/uhid/0005:046D:B342.0003"


@pytest.fixture
def machine(tmp_path: Path) -> MachineTree:
    """A machine whose power button and lid switch are no keyboard."""
    machine = MachineTree(tmp_path)
    machine.input("event0", "sys/devices/LNXSYSTM:00/LNXPWRBN:00", keys=POWER_KEYS, bus="0019")
    machine.input("event1", "sys/devices/LNXSYSTM:00/PNP0C0D:00", bus="0019")
    return machine


def only(machine: MachineTree, folder: str) -> list[str]:
    return only_ones(machine.tree, machine.real(folder))


def test_only_keyboard_is_said(machine: MachineTree) -> None:
    folder = machine.usb()
    machine.keyboard("event2", f"{folder}/1-4:1.0/0003:1234:5678.0001")

    assert only(machine, folder) == ["keyboard"]


def test_only_pointer_is_said(machine: MachineTree) -> None:
    folder = machine.usb()
    machine.mouse("event2", f"{folder}/1-4:1.0/0003:1234:5678.0001")

    assert only(machine, folder) == ["pointer"]


def test_composite_device_may_be_both(machine: MachineTree) -> None:
    folder = machine.usb()
    machine.keyboard("event2", f"{folder}/1-4:1.0/0003:1234:5678.0001")
    machine.mouse("event3", f"{folder}/1-4:1.1/0003:1234:5678.0002")

    assert only(machine, folder) == ["keyboard", "pointer"]


def test_device_that_is_neither_takes_nothing(machine: MachineTree) -> None:
    assert only(machine, machine.usb()) == []


def test_graphics_tablet_that_moves_as_a_mouse_is_a_pointer(machine: MachineTree) -> None:
    folder = machine.usb()
    machine.input("event2", f"{folder}/1-4:1.0", keys=MOUSE_KEYS, absolute="3")

    assert only(machine, folder) == ["pointer"]


def built_in_keyboard(machine: MachineTree) -> None:
    machine.keyboard("event8", PS2, bus="0011")


def bluetooth_keyboard(machine: MachineTree) -> None:
    machine.keyboard("event8", BLUETOOTH, bus="0005")


def second_usb_keyboard(machine: MachineTree, event: str = "event8") -> None:
    machine.keyboard(event, f"{machine.usb('1-5')}/1-5:1.0")


@pytest.mark.parametrize("other", [built_in_keyboard, bluetooth_keyboard, second_usb_keyboard])
def test_another_keyboard_of_any_bus_stands_in(
    machine: MachineTree, other: Callable[[MachineTree], None]
) -> None:
    folder = machine.usb()
    machine.keyboard("event2", f"{folder}/1-4:1.0")
    other(machine)

    assert only(machine, folder) == []


def virtual_keyboard(machine: MachineTree) -> None:
    machine.keyboard("event8", VIRTUAL)


def security_key(machine: MachineTree) -> None:
    machine.keyboard("event8", f"{machine.usb('1-5')}/1-5:1.0", vendor="1050")


def media_keys(machine: MachineTree) -> None:
    machine.input("event8", "sys/devices/platform/pcspkr", keys="ff9f207ac14057ff 0")


@pytest.mark.parametrize("other", [virtual_keyboard, security_key, media_keys])
def test_what_nobody_can_type_on_does_not_stand_in(
    machine: MachineTree, other: Callable[[MachineTree], None]
) -> None:
    folder = machine.usb()
    machine.keyboard("event2", f"{folder}/1-4:1.0")
    other(machine)

    assert only(machine, folder) == ["keyboard"]


def test_security_key_that_looks_like_a_keyboard_is_not_missed(machine: MachineTree) -> None:
    folder = machine.usb()
    machine.keyboard("event2", f"{folder}/1-4:1.0", vendor="1050")

    assert only(machine, folder) == []


@pytest.mark.parametrize(
    ("keys", "rel", "absolute", "stands_in"),
    [
        pytest.param(TOUCHPAD_KEYS, "0", "2608000 3", True, id="touchpad"),
        pytest.param(MOUSE_KEYS, "3", "0", True, id="pointing stick"),
        pytest.param(TOUCHSCREEN_KEYS, "0", "2608000 3", False, id="touchscreen"),
        pytest.param(KEYBOARD_KEYS, "0", "0", False, id="keyboard"),
    ],
)
def test_another_pointer_stands_in_if_it_is_as_good_as_a_mouse(
    machine: MachineTree, keys: str, rel: str, absolute: str, stands_in: bool
) -> None:
    folder = machine.usb()
    machine.mouse("event2", f"{folder}/1-4:1.0")
    machine.input("event8", PS2, keys=keys, rel=rel, absolute=absolute, bus="0011")

    assert only(machine, folder) == ([] if stands_in else ["pointer"])


def test_touchscreen_is_the_only_pointer_of_a_kiosk(machine: MachineTree) -> None:
    folder = machine.usb()
    machine.input("event2", f"{folder}/1-4:1.0", keys=TOUCHSCREEN_KEYS, absolute="3")

    assert only(machine, folder) == ["pointer"]


def test_bluetooth_adapter_takes_the_keyboard_behind_it_along(machine: MachineTree) -> None:
    folder = machine.usb()
    machine.write(f"{folder}/1-4:1.0/bluetooth/hci0/uevent", "DEVTYPE=host\n")
    machine.link("sys/class/bluetooth/hci0", f"{folder}/1-4:1.0/bluetooth/hci0")
    bluetooth_keyboard(machine)
    assert only(machine, folder) == ["keyboard"]

    second_usb_keyboard(machine, "event9")

    assert only(machine, folder) == []


def test_capabilities_that_are_no_bit_map_are_none(machine: MachineTree) -> None:
    folder = machine.usb()
    machine.input("event2", f"{folder}/1-4:1.0", keys="what?", vendor="")

    assert only(machine, folder) == []
