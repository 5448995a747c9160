"""The word for what a USB device is.

A device has many functions and gets one word: the most telling one. Classes are of usb.org's
list of class codes; what they do not say is in the tables below, or shown by what the kernel's
drivers and udev have made of the device. Those go when we claim it, so a table that knows the
device comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.model import UsbClass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_vmredir.model import VendorProduct

HUB: Final = 9
"""Class of a hub."""

SMARTCARD: Final = 11
"""Class of a smartcard reader (CCID)."""

_TELLING: Final = (
    "security key", "smartcard", "phone", "media", "camera", "printer", "network", "serial",
    "wireless", "storage", "audio", "keyboard", "mouse", "input",
)  # fmt: skip
"""All words, the most telling one first: a webcam has a microphone, a security key types."""


@dataclass(frozen=True, slots=True)
class Clues:
    """What is known of a device beside its descriptors, most of it while drivers are bound.

    Attributes:
        usages: Usage page and usage of its HID application collections, in order.
        subsystems: What the kernel made of it: ``net``, ``tty``, ``sound`` ...
        properties: Names of the properties that udev has set to 1.
        interfaces: Names of its interfaces; untrusted.
    """

    usages: tuple[tuple[int, int], ...] = ()
    subsystems: frozenset[str] = frozenset()
    properties: frozenset[str] = frozenset()
    interfaces: frozenset[str] = frozenset()


def word(ids: VendorProduct, classes: Sequence[UsbClass], clues: Clues = Clues()) -> str:
    """Return the word for a device; ``other`` if nothing is known."""
    words = {
        *(_of_class(usb_class) for usb_class in classes),
        *(_SUBSYSTEMS.get(name, "") for name in clues.subsystems),
        *(_PROPERTIES.get(name, "") for name in clues.properties),
        *_of_ids(ids, classes),
        _pointing(classes, clues),
    }
    if _FIDO in clues.usages:
        words.add("security key")
    if "MTP" in clues.interfaces:
        words.add("media")
    return next((telling for telling in _TELLING if telling in words), "other")


def _of_class(usb_class: UsbClass) -> str:
    match usb_class:
        case (
            UsbClass(2, 2, 0xFF)  # RNDIS, in three spellings
            | UsbClass(0xE0, 1, 3)
            | UsbClass(0xEF, 4, 1)
            | UsbClass(2, 0x06 | 0x0C | 0x0D | 0x0E)  # CDC: Ethernet, EEM, NCM, MBIM
        ):
            return "network"
        case UsbClass(0xFF, 0x42, 1) | UsbClass(0xFF, 0xFE, 2):  # Android's ADB, Apple's usbmux
            return "phone"
        case _:
            return _CLASSES.get(usb_class.base, "")


def _of_ids(ids: VendorProduct, classes: Sequence[UsbClass]) -> Iterator[str]:
    # The interface must be there too: an FTDI chip or a vendor's id alone says too little.
    bases = {usb_class.base for usb_class in classes}
    if 0xFF in bases and _listed(ids, _SERIAL_ADAPTERS):
        yield "serial"
    if 0xFF in bases and _listed(ids, _NETWORK_ADAPTERS):
        yield "network"
    if UsbClass(3, 0, 0) in classes and _listed(ids, _SECURITY_KEYS):
        yield "security key"


def _listed(ids: VendorProduct, table: dict[int, frozenset[int]]) -> bool:
    products = table.get(ids.vendor_id)
    return products is not None and (not products or ids.product_id in products)


def _pointing(classes: Sequence[UsbClass], clues: Clues) -> str:
    """Return keyboard or mouse, whichever it is first: gaming mice have keyboards in them."""
    boot = (
        _BOOT.get(usb_class.protocol, "")
        for usb_class in classes
        if (usb_class.base, usb_class.sub) == (3, 1)
    )
    usages = (_USAGES.get(usage, "") for usage in clues.usages)
    return next((name for name in (*boot, *usages) if name), "")


_CLASSES: Final = {
    1: "audio", 2: "serial", 3: "input", 5: "input", 6: "camera", 7: "printer", 8: "storage",
    SMARTCARD: "smartcard", 14: "camera", 0xE0: "wireless",
}  # fmt: skip

_BOOT: Final = {1: "keyboard", 2: "mouse"}
"""HID 1.11, section 4.3: protocols of the boot interface."""

_FIDO: Final = (0xF1D0, 0x01)
"""CTAP 2.1, section 11.2.8.2: usage of a FIDO authenticator."""

_USAGES: Final = {(1, 2): "mouse", (1, 6): "keyboard", (1, 7): "keyboard"}
"""HID Usage Tables, page Generic Desktop: Mouse, Keyboard, Keypad."""

_SUBSYSTEMS: Final = {
    "net": "network", "tty": "serial", "sound": "audio", "video4linux": "camera",
    "block": "storage", "bluetooth": "wireless",
}  # fmt: skip

_PROPERTIES: Final = {
    "ID_FIDO_TOKEN": "security key",
    "ID_SECURITY_TOKEN": "security key",
    "ID_SMARTCARD_READER": "smartcard",
    "ID_MTP_DEVICE": "media",
    "ID_MEDIA_PLAYER": "media",
}

_ANY: Final[frozenset[int]] = frozenset()

_SERIAL_ADAPTERS: Final = {
    0x0403: _ANY,  # FTDI
    0x067B: frozenset({0x2303, 0x2304, 0x23A3, 0x23B3, 0x23C3, 0x23D3, 0x23E3, 0x23F3}),  # PL2303
    0x10C4: frozenset({0xEA60, 0xEA61, 0xEA63, 0xEA70, 0xEA71, 0xEA80}),  # CP210x
    0x1A86: frozenset({0x5523, 0x7522, 0x7523}),  # CH340, CH341
    0x4348: frozenset({0x5523}),  # CH341
}
"""USB to serial with an interface of the vendor's own; none listed means all of the vendor."""

_NETWORK_ADAPTERS: Final = {
    0x0B95: frozenset({0x1780, 0x1790, 0x178A, 0x7720, 0x772A, 0x772B, 0x7E2B}),  # ASIX
    0x0BDA: frozenset({0x8050, 0x8152, 0x8153, 0x8155, 0x8156}),  # Realtek r8152
    0x0424: frozenset({0x7500, 0x7800, 0x7850, 0x9500, 0xEC00}),  # Microchip smsc95xx, lan78xx
}
"""Ethernet adapters with an interface of the vendor's own."""

_SECURITY_KEYS: Final = {
    0x0483: frozenset({0xA2CA}),  # Solo
    0x096E: _ANY,  # Feitian
    0x1050: _ANY,  # Yubico
    0x10C4: frozenset({0x8ACF}),  # U2F Zero
    0x1209: frozenset({0x50B0, 0x5070, 0x53C1, 0xBEEE}),  # Solo, Trezor
    0x18D1: frozenset({0x5026, 0x9470}),  # Google Titan
    0x1E0D: frozenset({0xF1AE, 0xF1D0}),  # Neowave Keydo
    0x1EA8: frozenset({0xF025, 0xF825}),  # Thetis
    0x20A0: frozenset({0x4287, 0x42B1, 0x42B2}),  # Nitrokey
    0x2581: frozenset({0xF1D0}),  # Happlink, Nitrokey U2F
    0x2CCF: _ANY,  # HyperFIDO
    0x349E: _ANY,  # Token2
}
"""Asked only where an interface of it is plain HID: its report descriptor may be out of sight."""
