"""Filter rules: which devices a side lets in, and their text form.

Source: usbredirfilter.c and usbredirfilter.h of the usbredir source package, and "USB Network
Redirection protocol description version 0.7", usb_redir_filter_filter. A rule is written as
``class,vendor,product,version,allow``, rules are separated by ``|``. The first rule that
matches decides; a device that none matches is not let in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.model import UsbClass

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.model import VendorProduct

ANY: Final = -1
"""Value of a field that matches everything."""

_PER_INTERFACE: Final = 0x00  # bDeviceClass of a device whose interfaces tell its classes,
_MISCELLANEOUS: Final = 0xEF  # and of one with interface associations
_NON_BOOT_HID: Final = UsbClass(0x03, 0x00, 0x00)

# What strtol(token, &end, 0) reads to the end of the token.
_NUMBER: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_INT_MAX: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule; each of the four numbers may be :data:`ANY`.

    Attributes:
        device_class: Class of the device or of an interface.
        vendor_id: Vendor id.
        product_id: Product id.
        device_version_bcd: bcdDevice.
        allow: Whether a device that matches is let in.

    Raises:
        ValueError: If a number is out of range.
    """

    device_class: int = ANY
    vendor_id: int = ANY
    product_id: int = ANY
    device_version_bcd: int = ANY
    allow: bool = True

    def __post_init__(self) -> None:
        if not ANY <= self.device_class <= 0xFF:
            raise ValueError(f"device class {self.device_class} in a filter rule")
        for value in (self.vendor_id, self.product_id, self.device_version_bcd):
            if not ANY <= value <= 0xFFFF:
                raise ValueError(f"number {value} in a filter rule")

    def matches(self, device_class: int, ids: VendorProduct, device_version_bcd: int) -> bool:
        """Return whether the rule speaks of this device, seen as one of this class."""
        return (
            self.device_class in (ANY, device_class)
            and self.vendor_id in (ANY, ids.vendor_id)
            and self.product_id in (ANY, ids.product_id)
            and self.device_version_bcd in (ANY, device_version_bcd)
        )

    def __str__(self) -> str:
        numbers = (
            _format(self.device_class, digits=2),
            _format(self.vendor_id, digits=4),
            _format(self.product_id, digits=4),
            _format(self.device_version_bcd, digits=4),
            str(int(self.allow)),
        )
        return ",".join(numbers)


def parse_rules(text: str) -> tuple[FilterRule, ...]:
    """Read a filter as usbredirfilter_string_to_rules does: empty rules and fields are skipped.

    Raises:
        ValueError: If it is no filter.
    """
    return tuple(_parse_rule(rule) for rule in text.split("|") if rule)


def format_rules(rules: Sequence[FilterRule]) -> str:
    """Write a filter as usbredirfilter_rules_to_string does."""
    return "|".join(map(str, rules))


def allows(
    rules: Sequence[FilterRule],
    *,
    device_class: int,
    ids: VendorProduct,
    device_version_bcd: int,
    interfaces: Sequence[UsbClass],
    default_allow: bool = False,
    skip_non_boot_hid: bool = True,
) -> bool:
    """Return whether a filter lets a device in, as usbredirfilter_check decides.

    The device must pass as each of the classes it shows itself as: that of the device, where
    it says one, and those of its interfaces. HID interfaces without boot protocol of a device
    that has others are not asked about: many a headset has one for its buttons.

    Args:
        rules: The filter.
        device_class: bDeviceClass.
        ids: Vendor and product id.
        device_version_bcd: bcdDevice.
        interfaces: Classes of the interfaces.
        default_allow: Whether a device that no rule matches is let in.
        skip_non_boot_hid: False asks about HID interfaces without boot protocol as well.
    """
    classes = [usb_class.base for usb_class in interfaces]
    if skip_non_boot_hid:
        asked = [each.base for each in interfaces if each != _NON_BOOT_HID]
        classes = asked or classes
    if device_class not in (_PER_INTERFACE, _MISCELLANEOUS):
        classes.insert(0, device_class)
    return all(
        next(
            (rule.allow for rule in rules if rule.matches(each, ids, device_version_bcd)),
            default_allow,
        )
        for each in classes
    )


def _parse_rule(text: str) -> FilterRule:
    numbers = [_parse_number(token) for token in text.split(",") if token]
    if len(numbers) != 5:
        raise ValueError(f"expected class,vendor,product,version,allow, got {text!r}")
    device_class, vendor_id, product_id, version, allow = numbers
    return FilterRule(device_class, vendor_id, product_id, version, allow != 0)


def _parse_number(token: str) -> int:
    if not (found := _NUMBER.fullmatch(token)):
        raise ValueError(f"expected a number in a filter rule, got {token!r}")
    sign, digits = found.groups()
    octal = digits.startswith("0") and digits.isdigit()
    value = int(sign + digits, 8 if octal else 0)
    # The C code cuts to an int here, which turns 4294967295 into "any", and an allow of
    # 4294967296 into a denial: not with us.
    if abs(value) > _INT_MAX:
        raise ValueError(f"number {token} in a filter rule")
    return value


def _format(value: int, *, digits: int) -> str:
    return "-1" if value == ANY else f"0x{value:0{digits}x}"
