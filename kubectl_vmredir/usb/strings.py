"""Asks a USB device for texts that the kernel could not read when it was plugged in.

Blocks. All failures are harmless: there is no such text then.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.usb.descriptors import decode_string
from kubectl_vmredir.usb.library import LIBUSB

if TYPE_CHECKING:
    from collections.abc import Iterable

    import usb.core

logger = logging.getLogger(__name__)

TIMEOUT_MS: Final = 500
"""How long one answer of the device may take."""

_STRING: Final = 3  # bDescriptorType
_US_ENGLISH: Final = 0x0409


def ask(
    node: str, bus: int, address: int, indices: Iterable[int], *, backend: object = None
) -> dict[int, str]:
    """Return the string descriptors of these indices, as far as they can be had; untrusted.

    Needs no claim: a device answers its control endpoint whoever has its interfaces.

    Args:
        node: Its device node.
        bus: Bus number.
        address: Device address.
        indices: Of the string descriptors.
        backend: Of pyusb; None for libusb.
    """
    if not os.access(node, os.R_OK | os.W_OK):
        return {}
    import usb.core  # late: hardly ever needed, and it loads libusb
    import usb.util

    try:
        device = usb.core.find(backend=backend or libusb(), bus=bus, address=address)
    except (usb.core.USBError, usb.core.NoBackendError) as exc:
        logger.debug("cannot ask %s for its texts: %s", node, exc)
        return {}
    if device is None:
        return {}
    device.default_timeout = TIMEOUT_MS
    try:
        return _texts(device, indices)
    finally:
        usb.util.dispose_resources(device)


def libusb() -> object:
    """Return pyusb's backend for the libusb that a redirection uses; None if it cannot be loaded.

    pyusb by itself would take the system's, which need not have one.
    """
    from usb.backend import libusb1

    return libusb1.get_backend(find_library=lambda _: LIBUSB)


def _texts(device: usb.core.Device, indices: Iterable[int]) -> dict[int, str]:
    import usb.core
    from usb.control import get_descriptor

    texts: dict[int, str] = {}
    try:
        languages = bytes(get_descriptor(device, 255, _STRING, 0))
        language = int.from_bytes(languages[2:4], "little") or _US_ENGLISH
        for index in indices:
            texts[index] = decode_string(
                bytes(get_descriptor(device, 255, _STRING, index, language))
            )
    except usb.core.USBError as exc:
        logger.debug(
            "%04x:%04x does not tell its texts: %s", device.idVendor, device.idProduct, exc
        )
    return texts
