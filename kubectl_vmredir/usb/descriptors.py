"""Reads descriptors of USB devices: as sysfs has them, as devices send them, any bytes.

Sources: USB 2.0, chapter 9; Device Class Definition for HID 1.11, section 6.2.2. Nothing here
raises: what cannot be read is left out, since a broken device must still be listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.model import UsbClass

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TEXT: Final = 126
"""Characters in a text of a device: a string descriptor holds no more (USB 2.0, 9.6.7)."""

_DEVICE_SIZE: Final = 18
_INTERFACE_SIZE: Final = 9

_STRING: Final = 3  # bDescriptorType, USB 2.0 table 9-5
_INTERFACE: Final = 4


@dataclass(frozen=True, slots=True)
class Description:
    """What the device and its first configuration say of themselves.

    Attributes:
        device_class: ``bDeviceClass``; 0 where the interfaces say it.
        manufacturer: Index of the string descriptor; 0 if there is none.
        product: As ``manufacturer``.
        serial: As ``manufacturer``.
        classes: Class triple of each interface, in alternate setting 0, by interface number.
    """

    device_class: int = 0
    manufacturer: int = 0
    product: int = 0
    serial: int = 0
    classes: tuple[UsbClass, ...] = ()


def parse_descriptors(data: bytes) -> Description:
    """Read the ``descriptors`` file of sysfs: the device's, then each configuration's."""
    if len(data) < _DEVICE_SIZE:
        return Description()
    device_class, (manufacturer, product, serial) = data[4], data[14:17]
    classes: dict[int, UsbClass] = {}
    for descriptor in _first_configuration(memoryview(data)[_DEVICE_SIZE:]):
        if descriptor[1] == _INTERFACE and len(descriptor) >= _INTERFACE_SIZE:
            number, alternate = descriptor[2:4]
            if alternate == 0:
                classes.setdefault(number, UsbClass(*descriptor[5:8]))
    return Description(
        device_class, manufacturer, product, serial, tuple(classes[key] for key in sorted(classes))
    )


def _first_configuration(data: memoryview) -> Iterator[memoryview]:
    data = data[: int.from_bytes(data[2:4], "little")]  # wTotalLength
    while len(data) >= 2 and 2 <= (length := data[0]) <= len(data):
        yield data[:length]
        data = data[length:]


def decode_string(descriptor: bytes) -> str:
    """Read a string descriptor; untrusted text. What is no UTF-16 becomes U+FFFD."""
    if len(descriptor) < 2 or descriptor[1] != _STRING:
        return ""
    return descriptor[2 : descriptor[0]].decode("utf-16-le", errors="replace")[:MAX_TEXT]


def application_usages(report: bytes) -> tuple[tuple[int, int], ...]:
    """Return usage page and usage of each application collection of a HID report descriptor."""
    found: list[tuple[int, int]] = []
    page = usage = 0
    left = memoryview(report)
    while left:
        prefix, size = left[0], (0, 1, 2, 4)[left[0] & 3]
        value = int.from_bytes(left[1 : 1 + size], "little")
        left = left[1 + size :]
        match prefix & 0xFC:
            case 0x04:  # global: Usage Page
                page = value
            case 0x08:  # local: Usage; with four bytes, the page is in it
                usage = value if size == 4 else page << 16 | value
            case 0xA0:  # main: Collection
                if value == 1:  # Application
                    found.append((usage >> 16, usage & 0xFFFF))
                usage = 0
            case 0x80 | 0x90 | 0xB0 | 0xC0:  # main: Input, Output, Feature, End Collection
                usage = 0
            case 0xFC:  # a long item, 0xFE: size of its data, tag, data; none is defined
                left = left[value & 0xFF :]
            case _:
                pass
    return tuple(found)
