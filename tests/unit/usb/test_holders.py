from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl_vmredir.errors import DeviceNotFound
from kubectl_vmredir.model import Holder, LocalDevice
from kubectl_vmredir.usb.discovery import read_device
from kubectl_vmredir.usb.holders import UNSEEN, drivers, find_holders
from tests.support.usb_machine import HID, MASS_STORAGE, SMARTCARD, UsbMachine, ordinary_user

NODE = "/dev/bus/usb/001/004"


@pytest.fixture
def machine() -> Iterator[UsbMachine]:
    # Not tmp_path: an ordinary user cannot look into root's.
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        yield UsbMachine(Path(root))


def device_of(folder: Path) -> LocalDevice:
    device = read_device(folder, node=NODE)
    assert device is not None
    return device


# -- drivers ----------------------------------------------------------------------------------


def test_drivers_are_in_the_order_of_the_interfaces(machine: UsbMachine) -> None:
    names = ["snd-usb-audio", "", *(["usbhid"] * 8), "last"]
    device = device_of(machine.plug(classes=[HID] * 11, drivers=names))

    assert drivers(device, root=machine.root) == tuple(names)


def test_a_device_that_is_gone_has_no_drivers_to_tell(machine: UsbMachine) -> None:
    device = device_of(machine.plug())
    (machine.root / "sys/bus/usb/devices/1-4").unlink()

    with pytest.raises(DeviceNotFound):
        drivers(device, root=machine.root)
    with pytest.raises(DeviceNotFound):
        find_holders(device, root=machine.root)


# -- holders ----------------------------------------------------------------------------------


def test_a_device_that_nobody_uses_has_no_holders(machine: UsbMachine) -> None:
    device = device_of(machine.plug(drivers=["usb-storage"]))
    machine.run(100, "bash", "/dev/bus/usb/001/005")

    assert find_holders(device, root=machine.root) == ()


def test_pcscd_that_claims_a_reader_is_named_with_what_stops_it(machine: UsbMachine) -> None:
    device = device_of(machine.plug(classes=[SMARTCARD], drivers=["usbfs"]))
    machine.run(100, "pcscd", NODE)

    assert find_holders(device, root=machine.root) == (
        Holder("pcscd", 100, NODE, True, "sudo systemctl stop pcscd.socket pcscd"),
    )


def test_a_program_that_only_has_the_node_open_claims_nothing(machine: UsbMachine) -> None:
    device = device_of(machine.plug(drivers=["usb-storage"]))
    machine.run(100, "lsusb", NODE)

    assert find_holders(device, root=machine.root) == (Holder("lsusb", 100, NODE, False),)


@pytest.mark.parametrize(
    "node", ["hidraw0", "ttyACM0", "ttyUSB1", "video0", "snd/pcmC1D0p", "usb/lp0", "sdb"]
)
def test_programs_that_use_what_a_driver_made_are_holders(machine: UsbMachine, node: str) -> None:
    folder = machine.plug(drivers=["odd"])
    machine.make(folder / "1-4:1.0/made/made0", "made", node)
    machine.run(100, "user", f"/dev/{node}")

    assert find_holders(device_of(folder), root=machine.root) == (
        Holder("user", 100, f"/dev/{node}", False),
    )


def test_who_reads_input_devices_is_no_holder(machine: UsbMachine) -> None:
    folder = machine.plug(classes=[HID], drivers=["usbhid"])
    machine.make(folder / "1-4:1.0/input/input3/event3", "input", "input/event3")
    machine.run(100, "Xorg", "/dev/input/event3")

    assert find_holders(device_of(folder), root=machine.root) == ()


def test_a_text_of_the_device_cannot_name_a_node(machine: UsbMachine) -> None:
    folder = machine.plug(classes=[HID], drivers=["usbhid"])
    machine.make(folder / "1-4:1.0/hid", "hid", uevent="HID_NAME=x\nDEVNAME=sda\n")
    machine.run(100, "mount.ntfs", "/dev/sda")

    assert find_holders(device_of(folder), root=machine.root) == ()


def test_a_program_is_told_once_by_the_node_that_tells_most(machine: UsbMachine) -> None:
    folder = machine.plug(classes=[HID], drivers=["usbhid"])
    machine.make(folder / "1-4:1.0/hidraw/hidraw0", "hidraw", "hidraw0")
    machine.run(100, "firefox", "/dev/hidraw0", "/dev/hidraw0", NODE)

    assert find_holders(device_of(folder), root=machine.root) == (
        Holder("firefox", 100, NODE, False),
    )


def test_a_program_is_told_by_the_raw_node_rather_than_by_that_of_a_driver(
    machine: UsbMachine,
) -> None:
    folder = machine.plug(classes=[HID], drivers=["usbhid"])
    machine.make(folder / "1-4:1.0/a/ttyACM0", "tty", "ttyACM0")
    machine.make(folder / "1-4:1.0/b/hidraw/hidraw0", "hidraw", "hidraw0")
    machine.make(folder / "1-4:1.0/c/ttyACM1", "tty", "ttyACM1")
    machine.run(100, "openocd", "/dev/ttyACM0", "/dev/hidraw0", "/dev/ttyACM1")

    assert find_holders(device_of(folder), root=machine.root) == (
        Holder("openocd", 100, "/dev/hidraw0", False),
    )


def test_our_own_processes_are_no_holders(machine: UsbMachine) -> None:
    device = device_of(machine.plug(drivers=["usbfs"]))
    machine.run(100, "kubectl-vmredir", NODE)
    machine.run(101, "python3", NODE)

    assert find_holders(device, own={100, 101}, root=machine.root) == ()


def test_who_has_the_node_open_beside_us_claims_nothing(machine: UsbMachine) -> None:
    device = device_of(machine.plug(drivers=["usbfs"]))
    machine.run(100, "kubectl-vmredir", NODE)
    machine.run(101, "lsusb", NODE)

    assert find_holders(device, own={100}, root=machine.root) == (
        Holder("lsusb", 101, NODE, False),
    )


def test_holders_that_claim_come_first(machine: UsbMachine) -> None:
    folder = machine.plug(classes=[HID, SMARTCARD], drivers=["usbhid", "usbfs"])
    machine.make(folder / "1-4:1.0/hidraw/hidraw0", "hidraw", "hidraw0")
    machine.run(100, "firefox", "/dev/hidraw0")
    machine.run(200, "scdaemon", NODE)

    holders = find_holders(device_of(folder), root=machine.root)

    assert [holder.program for holder in holders] == ["scdaemon", "firefox"]
    assert holders[0].command == "gpgconf --kill scdaemon"


def test_name_of_a_program_is_data(machine: UsbMachine) -> None:
    device = device_of(machine.plug())
    machine.run(100, "\x1b[31m$(id)", NODE)

    assert find_holders(device, root=machine.root)[0].program == "\x1b[31m$(id)"


# -- holders out of sight ---------------------------------------------------------------------


def test_a_usb_host_of_ours_is_no_holder_though_nobody_may_look_into_it(
    machine: UsbMachine,
) -> None:
    device = device_of(machine.plug(classes=[MASS_STORAGE], drivers=["usbfs"]))
    machine.run(100, "kubectl-vmredir", visible=False)

    with ordinary_user():
        assert find_holders(device, own={100}, root=machine.root) == ()


def test_claim_of_a_program_out_of_sight_tells_how_to_look(machine: UsbMachine) -> None:
    device = device_of(machine.plug(classes=[MASS_STORAGE], drivers=["usbfs"]))
    machine.run(1, "systemd", visible=False)

    with ordinary_user():
        holders = find_holders(device, root=machine.root)

    assert holders == (Holder(UNSEEN, None, NODE, True, f"sudo fuser -v {NODE}"),)


def test_pcscd_of_another_user_is_the_likely_holder_of_a_reader(machine: UsbMachine) -> None:
    device = device_of(machine.plug(classes=[SMARTCARD], drivers=["usbfs"]))
    machine.run(100, "pcscd", NODE, visible=False)

    with ordinary_user():
        holders = find_holders(device, root=machine.root)

    assert holders == (
        Holder("pcscd (probably)", None, NODE, True, "sudo systemctl stop pcscd.socket pcscd"),
    )


def test_a_known_program_is_not_blamed_for_what_it_does_not_claim(machine: UsbMachine) -> None:
    device = device_of(machine.plug(classes=[MASS_STORAGE], drivers=["usbfs"]))
    machine.run(100, "pcscd", visible=False)
    machine.run(101, "usbmuxd", visible=False)

    with ordinary_user():
        holders = find_holders(device, root=machine.root)

    assert [holder.program for holder in holders] == [UNSEEN]


def test_a_known_program_that_can_be_seen_and_holds_nothing_is_not_blamed(
    machine: UsbMachine,
) -> None:
    device = device_of(machine.plug(classes=[SMARTCARD], drivers=["usbfs"]))
    machine.run(100, "scdaemon")
    machine.run(101, "pcscd", NODE, visible=False)

    with ordinary_user():
        holders = find_holders(device, root=machine.root)

    assert [holder.program for holder in holders] == ["pcscd (probably)"]


def test_of_two_likely_programs_none_is_blamed(machine: UsbMachine) -> None:
    device = device_of(machine.plug(classes=[SMARTCARD], drivers=["usbfs"]))
    machine.run(100, "scdaemon", visible=False)
    machine.run(101, "pcscd", visible=False)

    with ordinary_user():
        holders = find_holders(device, root=machine.root)

    assert [holder.program for holder in holders] == [UNSEEN]


def test_nothing_is_said_of_who_cannot_be_seen_while_nothing_is_claimed(
    machine: UsbMachine,
) -> None:
    device = device_of(machine.plug(classes=[SMARTCARD], drivers=[""]))
    machine.run(100, "pcscd", visible=False)

    with ordinary_user():
        assert find_holders(device, root=machine.root) == ()
