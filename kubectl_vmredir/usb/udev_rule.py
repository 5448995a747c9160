"""The udev rule that lets an ordinary user open a device. Pure.

Sources: udev(7); 73-seat-late.rules of systemd, which carries out the tag ``uaccess``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import DeviceAmbiguous, DeviceNotFound, UsageError
from kubectl_vmredir.usb.tree import PLAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.model import DeviceSelector, LocalDevice, VendorProduct

RULES_FOLDER: Final = "etc/udev/rules.d"
RULE_PREFIX: Final = "70-kubectl-vmredir-"
"""Start of the file's name: it has to come before 73-seat-late.rules."""


def rule_for(selector: DeviceSelector, devices: Sequence[LocalDevice]) -> str:
    """Return a rule for the device that is meant, with comments on how to install it.

    Args:
        selector: The device. It need not be plugged in if its ids are said.
        devices: Those that are plugged in.

    Raises:
        DeviceNotFound: If it is not plugged in and has to be.
        DeviceAmbiguous: If several are meant.
        UsageError: If it is virtual.
    """
    match [device for device in devices if selector.matches(device)]:
        case []:
            serial = selector.serial or ""
            if selector.ids is None or (serial and not PLAIN.fullmatch(serial)):
                raise DeviceNotFound(selector)
            return rule_text(selector.ids, serial=serial)
        case [device]:
            if device.virtual:
                raise UsageError(f"device {device} is virtual: anybody may use it")
            # A text of the device goes into a rule only where nothing in it means anything.
            if device.serial and not PLAIN.fullmatch(device.serial):
                return rule_text(device.ids, port_path=device.port_path)
            return rule_text(device.ids, serial=device.serial or "")
        case several:
            raise DeviceAmbiguous(selector, several)


def rule_text(ids: VendorProduct, *, serial: str = "", port_path: str = "") -> str:
    """Return a rule for the devices with these ids, and this serial or in this port if given.

    Args:
        ids: Vendor and product id.
        serial: Plain; empty for any.
        port_path: As the kernel writes it; empty for any.
    """
    assert not serial or PLAIN.fullmatch(serial), "untrusted text in a rule"
    vendor, product = f"{ids.vendor_id:04x}", f"{ids.product_id:04x}"
    which = [f'ATTR{{idVendor}}=="{vendor}"', f'ATTR{{idProduct}}=="{product}"']
    if serial:
        which.append(f'ATTR{{serial}}=="{serial}"')
    if port_path:
        which.append(f'KERNEL=="{port_path}"')
    match = ", ".join(['SUBSYSTEM=="usb"', 'ENV{DEVTYPE}=="usb_device"', *which])
    name = "-".join(filter(None, (vendor, product, serial, port_path)))
    return (
        f"# Lets who sits at this machine open USB device {ids}. Save this as\n"
        f"#   /{RULES_FOLDER}/{RULE_PREFIX}{name}.rules\n"
        "# and then:\n"
        "#   sudo udevadm control --reload\n"
        "#   sudo udevadm trigger --subsystem-match=usb "
        f"--attr-match=idVendor={vendor} --attr-match=idProduct={product}\n"
        f'{match}, TAG+="uaccess"\n'
        "# Who logs in by ssh sits elsewhere. For them, a group that they are in:\n"
        f'# {match}, GROUP="plugdev", MODE="0660"\n'
    )
