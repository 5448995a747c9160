"""The udev rule for a device, which holds no text that means anything to udev."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.errors import DeviceAmbiguous, DeviceNotFound, UsageError
from kubectl_vmredir.model import DeviceSelector
from kubectl_vmredir.usb.udev_rule import rule_for
from tests.support.machine_tree import local_device

KEY = local_device(3)
IDS = DeviceSelector.parse("1234:5678")
MATCH = (
    'SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device", ATTR{idVendor}=="1234", ATTR{idProduct}=="5678"'
)


def lines(rule: str) -> list[str]:
    """Return what udev reads of a file."""
    return [line for line in rule.splitlines() if not line.startswith("#")]


def test_rule_names_a_plain_serial_and_says_how_it_is_installed() -> None:
    rule = rule_for(IDS, [KEY])

    assert lines(rule) == [f'{MATCH}, ATTR{{serial}}=="S1", TAG+="uaccess"']
    assert "#   /etc/udev/rules.d/70-kubectl-vmredir-1234-5678-S1.rules\n" in rule
    assert "#   sudo udevadm control --reload\n" in rule
    assert f'# {MATCH}, ATTR{{serial}}=="S1", GROUP="plugdev", MODE="0660"\n' in rule


def test_device_without_serial_is_known_by_its_ids() -> None:
    rule = rule_for(IDS, [replace(KEY, serial=None)])

    assert lines(rule) == [f'{MATCH}, TAG+="uaccess"']


@pytest.mark.parametrize("serial", ['";$(id)\n', "a*", "[x]", "S 1", "x" * 65])
def test_device_whose_serial_is_not_plain_is_known_by_its_port(serial: str) -> None:
    device = replace(KEY, serial=serial)

    rule = rule_for(DeviceSelector.of(device), [device])

    assert lines(rule) == [f'{MATCH}, KERNEL=="1-4", TAG+="uaccess"']
    assert serial not in rule


@given(serial=st.text(min_size=1))
def test_serial_is_never_more_than_a_word_of_the_rule(serial: str) -> None:
    (line,) = lines(rule_for(IDS, [replace(KEY, serial=serial)]))

    assert line.count('"') == 12
    assert line.endswith(', TAG+="uaccess"')


def test_device_that_is_not_plugged_in_has_a_rule_if_its_ids_are_said() -> None:
    assert lines(rule_for(IDS, [])) == [f'{MATCH}, TAG+="uaccess"']
    assert lines(rule_for(DeviceSelector.parse("1234:5678:S9"), [KEY])) == [
        f'{MATCH}, ATTR{{serial}}=="S9", TAG+="uaccess"'
    ]


@pytest.mark.parametrize("text", ["port:1-9", "1-9", '1234:5678:"S"'])
def test_device_that_is_not_plugged_in_has_none_otherwise(text: str) -> None:
    with pytest.raises(DeviceNotFound):
        rule_for(DeviceSelector.parse(text), [KEY])


def test_several_devices_have_none() -> None:
    with pytest.raises(DeviceAmbiguous):
        rule_for(IDS, [KEY, replace(KEY, address=5, port_path="1-5", serial="S2")])


def test_virtual_device_needs_none() -> None:
    with pytest.raises(UsageError, match="virtual"):
        rule_for(IDS, [replace(KEY, virtual=True)])
