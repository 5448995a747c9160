"""How Linux gets to know a USB device, as a script of the simulated kernel.

Source: hub_port_init and usb_new_device of Linux 6.1, as recorded in QEMU 7.2 (the twin test);
the descriptors are those of USB 2.0 chapter 9.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.guests.procedure import Print, ResetPort
from kubectl_vmredir.lab.guests.transfers import Outcome, Setup
from kubectl_vmredir.protocol.constants import INPUT, TransferType, UsbSpeed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubectl_vmredir.lab.guests.procedure import Script

_DEVICE: Final = 0x0100
_CONFIGURATION: Final = 0x0200
_STRING: Final = 0x0300
_QUALIFIER: Final = 0x0600
_ENGLISH: Final = 0x0409

_ATTEMPTS: Final = 4
_QUALIFIER_ATTEMPTS: Final = 3

_SPEEDS: Final = {UsbSpeed.LOW: "low", UsbSpeed.HIGH: "high", UsbSpeed.SUPER: "SuperSpeed"}
_ERRORS: Final = {
    Outcome.STALL: -32,
    Outcome.BABBLE: -75,
    Outcome.IOERROR: -71,
    Outcome.TIMEOUT: -110,
}


class DescriptorType(enum.IntEnum):
    """Descriptors that are read; USB 2.0 table 9-5, HID 1.11 section 7.1."""

    INTERFACE = 0x04
    ENDPOINT = 0x05
    HID = 0x21


@dataclass(frozen=True, slots=True)
class PortName:
    """A device as the kernel's log names it."""

    slot: int
    number: int
    """Device number on the bus."""
    speed: UsbSpeed

    @property
    def port(self) -> str:
        """``1-1`` for slot 0."""
        return f"1-{self.slot + 1}"

    def using(self, verb: str) -> str:
        """Return the line for a device that is ``new``, or was ``reset``."""
        speed = _SPEEDS.get(self.speed, "full")
        return (
            f"usb {self.port}: {verb} {speed}-speed USB device number {self.number} using xhci_hcd"
        )


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface, in its first alternate setting.

    Attributes:
        number: bInterfaceNumber.
        kind: Its class triple.
        endpoints: Address and transfer type of each.
        report_bytes: Length of its HID report descriptor; 0 if it has none.
    """

    number: int
    kind: tuple[int, int, int]
    endpoints: tuple[tuple[int, TransferType], ...]
    report_bytes: int = 0

    def first(self, kind: TransferType, *, direction: int) -> int | None:
        """Return the address of the first endpoint of this type and direction."""
        for address, endpoint_kind in self.endpoints:
            if endpoint_kind is kind and address & INPUT == direction:
                return address
        return None


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """A device that is configured.

    Attributes:
        serial: Its serial number; untrusted text.
        configuration: Number of its only configuration.
        interfaces: Those of it.
    """

    serial: str
    configuration: int
    interfaces: tuple[Interface, ...]


class _Failed(LabError):
    """A request went wrong: another attempt may do better."""


def enumerate_device(name: PortName) -> Script[UsbDevice | None]:
    """Enumerate and configure; None if the device does not answer as it should."""
    yield Print(name.using("new"))
    for _ in range(_ATTEMPTS):
        try:
            return (yield from _attempt(name))
        except _Failed as failed:
            yield Print(f"usb {name.port}: {failed}")
    yield Print(f"usb usb1-port{name.slot + 1}: unable to enumerate USB device")
    return None


def _attempt(name: PortName) -> Script[UsbDevice]:
    yield ResetPort()
    yield from _get(_DEVICE, 64, "device descriptor read/64")
    yield ResetPort()
    device = yield from _get(_DEVICE, 18, "device descriptor read/all")
    if len(device) < 18:
        raise _Failed("device descriptor is too short")
    vendor, product, release, manufacturer_index, product_index, serial_index = struct.unpack_from(
        "<HHHBBB", device, 8
    )
    if name.speed is UsbSpeed.FULL:
        # Could it be faster elsewhere? Linux would say so.
        for _ in range(_QUALIFIER_ATTEMPTS):
            if (yield Setup(0x80, 6, _QUALIFIER, 0, 10)).good:
                break
    head = yield from _get(_CONFIGURATION, 9, "can't read configurations")
    if len(head) < 9:
        raise _Failed("configuration descriptor is too short")
    (total,) = struct.unpack_from("<H", head, 2)
    descriptors = yield from _get(_CONFIGURATION, total, "can't read configurations")
    yield Setup(0x80, 6, _STRING, 0, 255)
    product_text = yield from _text(product_index)
    manufacturer_text = yield from _text(manufacturer_index)
    serial = yield from _text(serial_index)
    yield Print(
        f"usb {name.port}: New USB device found, idVendor={vendor:04x}, idProduct={product:04x}, "
        f"bcdDevice={release >> 8:2x}.{release & 0xFF:02x}"
    )
    yield Print(
        f"usb {name.port}: New USB device strings: Mfr={manufacturer_index}, "
        f"Product={product_index}, SerialNumber={serial_index}"
    )
    for label, text in (
        ("Product", product_text),
        ("Manufacturer", manufacturer_text),
        ("SerialNumber", serial),
    ):
        if text:
            yield Print(f"usb {name.port}: {label}: {text}")
    configuration = head[5]
    if not (yield Setup(0x00, 9, configuration)).good:
        raise _Failed(f"can't set config #{configuration}")
    return UsbDevice(serial, configuration, tuple(_interfaces(descriptors)))


def reset_device(name: PortName, configuration: int) -> Script[bool]:
    """Reset a device that is in use, and configure it again, as its driver asks to."""
    yield Print(name.using("reset"))
    yield ResetPort()
    if not (yield Setup(0x80, 6, _DEVICE, 0, 18)).good:
        return False
    return (yield Setup(0x00, 9, configuration)).good


def _get(value: int, length: int, words: str) -> Script[bytes]:
    answer = yield Setup(0x80, 6, value, 0, length)
    if not answer.good:
        raise _Failed(f"{words}, error {_ERRORS[answer.outcome]}")
    return answer.data


def printable(text: str) -> str:
    """Return a text of a device for the log: only printable ASCII of it is kept."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


def _text(index: int) -> Script[str]:
    """Read a string; empty if there is none."""
    if not index:
        return ""
    answer = yield Setup(0x80, 6, _STRING | index, _ENGLISH, 255)
    return printable(answer.data[2:].decode("utf-16-le", errors="replace"))


def _interfaces(descriptors: bytes) -> Iterator[Interface]:
    """Read the interfaces, each in its first alternate setting, as far as they make sense."""
    interface: Interface | None = None
    for one in _split(descriptors):
        match one[1]:
            case DescriptorType.INTERFACE if len(one) >= 9:
                if interface is not None:
                    yield interface
                first_setting = one[3] == 0
                interface = (
                    Interface(one[2], (one[5], one[6], one[7]), ()) if first_setting else None
                )
            case DescriptorType.ENDPOINT if len(one) >= 7 and interface is not None:
                endpoint = (one[2], TransferType(one[3] & 0x03))
                interface = replace(interface, endpoints=(*interface.endpoints, endpoint))
            case DescriptorType.HID if len(one) >= 9 and interface is not None:
                interface = replace(interface, report_bytes=one[7] | one[8] << 8)
    if interface is not None:
        yield interface


def _split(descriptors: bytes) -> Iterator[bytes]:
    """Yield one descriptor after the other."""
    offset = 0
    while offset + 2 <= len(descriptors) and (size := descriptors[offset]) >= 2:
        yield descriptors[offset : offset + size]
        offset += size
