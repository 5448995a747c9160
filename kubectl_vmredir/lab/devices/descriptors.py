"""Descriptors of a USB device, and what they are made from; USB 2.0 section 9.6."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.model import Speed, UsbClass

if TYPE_CHECKING:
    from kubectl_vmredir.model import VendorProduct
    from kubectl_vmredir.protocol.constants import TransferType

USB_2_0: Final = 0x0200
CONTROL_PACKET_BYTES: Final = 64
"""bMaxPacketSize0 of all our devices: the only size at high speed, the largest at full."""

SEE_INTERFACES: Final = UsbClass(0, 0, 0)
"""Class of a device that leaves it to its interfaces; USB 2.0 table 9-8."""

_LANGUAGES: Final = (0x0409,)  # English, United States
_MAX_STRING_BYTES: Final = 255 - 2
"""bLength is one byte and counts itself and bDescriptorType."""


class DescriptorType(enum.IntEnum):
    """bDescriptorType; USB 2.0 table 9-5, HID 1.11 section 7.1, CDC 1.2 table 12."""

    DEVICE = 1
    CONFIGURATION = 2
    STRING = 3
    INTERFACE = 4
    ENDPOINT = 5
    DEVICE_QUALIFIER = 6
    OTHER_SPEED_CONFIGURATION = 7
    HID = 0x21
    HID_REPORT = 0x22
    CS_INTERFACE = 0x24


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint other than zero.

    Attributes:
        address: Number, with the direction in bit 7.
        type: How it transfers.
        max_packet_size: In bytes.
        interval: bInterval: how often it wants to be polled; 0 for bulk.
    """

    address: int
    type: TransferType
    max_packet_size: int
    interval: int = 0

    def encode(self) -> bytes:
        """Return the endpoint descriptor."""
        return struct.pack(
            "<BBBBHB",
            7,
            DescriptorType.ENDPOINT,
            self.address,
            self.type,
            self.max_packet_size,
            self.interval,
        )


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface, which has one alternate setting only.

    Attributes:
        number: bInterfaceNumber.
        usb_class: Class triple.
        endpoints: Its endpoints, in order.
        extra: Class-specific descriptors, which stand before the endpoints.
    """

    number: int
    usb_class: UsbClass
    endpoints: tuple[Endpoint, ...]
    extra: bytes = b""

    def encode(self) -> bytes:
        """Return the interface descriptor and those that belong to it."""
        head = struct.pack(
            "<BBBBBBBBB",
            9,
            DescriptorType.INTERFACE,
            self.number,
            0,
            len(self.endpoints),
            self.usb_class.base,
            self.usb_class.sub,
            self.usb_class.protocol,
            0,
        )
        return head + self.extra + b"".join(endpoint.encode() for endpoint in self.endpoints)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration.

    Attributes:
        interfaces: Ordered by number.
        value: bConfigurationValue.
        remote_wakeup: Whether the device can wake the host.
        max_power_ma: What it draws from the bus, in mA.
    """

    interfaces: tuple[Interface, ...]
    value: int = 1
    remote_wakeup: bool = False
    max_power_ma: int = 100

    def encode(self, kind: DescriptorType = DescriptorType.CONFIGURATION) -> bytes:
        """Return the configuration descriptor and all that belong to it."""
        body = b"".join(interface.encode() for interface in self.interfaces)
        attributes = 0x80 | (0x20 if self.remote_wakeup else 0)  # bit 7 is always set
        return (
            struct.pack(
                "<BBHBBBBB",
                9,
                kind,
                9 + len(body),
                len(self.interfaces),
                self.value,
                0,
                attributes,
                self.max_power_ma // 2,
            )
            + body
        )


@dataclass(frozen=True, slots=True)
class Description:
    """All that a device says of itself.

    Attributes:
        ids: Vendor and product id.
        manufacturer: iManufacturer.
        product: iProduct.
        serial: iSerialNumber; two devices of the same kind differ by it.
        speed: FULL or HIGH.
        configuration: The only configuration.
        other_speed: The configuration at the other of the two speeds, for a device that can
            do both; None for one that runs at full speed only.
        release: bcdDevice.
        device_class: Class of the device as a whole.
    """

    ids: VendorProduct
    manufacturer: str
    product: str
    serial: str
    speed: Speed
    configuration: Configuration
    other_speed: Configuration | None = None
    release: int = 0x0100
    device_class: UsbClass = SEE_INTERFACES

    def __post_init__(self) -> None:
        assert (self.speed is Speed.HIGH) == (self.other_speed is not None)
        for text in (self.manufacturer, self.product, self.serial):
            if len(text.encode("utf-16-le")) > _MAX_STRING_BYTES:
                raise LabError(f"text of a USB device is too long: {text[:20]!r}...")

    def descriptor(self, kind: int, index: int, language: int) -> bytes | None:
        """Return a whole descriptor, or None if the device has no such."""
        match kind, index:
            case DescriptorType.DEVICE, 0:
                return self._device()
            case DescriptorType.CONFIGURATION, 0:
                return self.configuration.encode()
            case DescriptorType.DEVICE_QUALIFIER, 0 if self.other_speed:
                return struct.pack(
                    "<BBHBBBBBB", 10, kind, USB_2_0, *self._class, CONTROL_PACKET_BYTES, 1, 0
                )
            case DescriptorType.OTHER_SPEED_CONFIGURATION, 0 if self.other_speed:
                return self.other_speed.encode(DescriptorType.OTHER_SPEED_CONFIGURATION)
            case DescriptorType.STRING, 0:
                return _string(struct.pack(f"<{len(_LANGUAGES)}H", *_LANGUAGES))
            case DescriptorType.STRING, (1 | 2 | 3) if language in _LANGUAGES:
                text = (self.manufacturer, self.product, self.serial)[index - 1]
                return _string(text.encode("utf-16-le"))
            case _:
                return None

    @property
    def _class(self) -> tuple[int, int, int]:
        return self.device_class.base, self.device_class.sub, self.device_class.protocol

    def _device(self) -> bytes:
        return struct.pack(
            "<BBHBBBBHHHBBBB",
            18,
            DescriptorType.DEVICE,
            USB_2_0,
            *self._class,
            CONTROL_PACKET_BYTES,
            self.ids.vendor_id,
            self.ids.product_id,
            self.release,
            1,
            2,
            3,
            1,
        )


def _string(body: bytes) -> bytes:
    return struct.pack("<BB", 2 + len(body), DescriptorType.STRING) + body
