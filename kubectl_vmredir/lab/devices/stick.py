"""A USB stick: mass storage, SCSI transparent command set, bulk-only transport."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import UsbError
from kubectl_vmredir.lab.devices import scsi
from kubectl_vmredir.lab.devices.bulk_only import BulkOnlyTransport
from kubectl_vmredir.lab.devices.descriptors import (
    Configuration,
    Description,
    Endpoint,
    Interface,
)
from kubectl_vmredir.lab.devices.function import ACK, STALL, Answer, Handshake, Setup
from kubectl_vmredir.lab.devices.medium import ImageFile, Medium, Memory
from kubectl_vmredir.model import Speed, UsbClass, VendorProduct
from kubectl_vmredir.protocol.constants import TransferType

if TYPE_CHECKING:
    from kubectl_vmredir.lab.devices.function import Bus

IDS: Final = VendorProduct(0x1209, 0x0001)
"""pid.codes' ids for private tests: no driver has a quirk for them."""

BULK_IN: Final = 0x81
BULK_OUT: Final = 0x02

_PRODUCT: Final = "Virtual Stick"
_HIGH_SPEED_PACKET: Final = 512
_FULL_SPEED_PACKET: Final = 64
_RESET: Final = (0x21, 0xFF)
_GET_MAX_LUN: Final = (0xA1, 0xFE)


class Stick:
    """A stick with one logical unit.

    Args:
        serial: Its serial number.
        image: What is on it: bytes, which are copied, or a file; whole blocks of 512 bytes.
        read_only: Whether it is write-protected.
    """

    def __init__(self, serial: str, image: bytes | Path, *, read_only: bool = False) -> None:
        self.medium: Medium = (
            ImageFile(image, read_only=read_only)
            if isinstance(image, Path)
            else Memory(image, read_only=read_only)
        )
        self.description = Description(
            ids=IDS,
            manufacturer="kubectl-vmredir",
            product=_PRODUCT,
            serial=serial,
            speed=Speed.HIGH,
            configuration=_configuration(_HIGH_SPEED_PACKET),
            other_speed=_configuration(_FULL_SPEED_PACKET),
        )
        self._bus: Bus | None = None
        self._disk = scsi.Disk(self.medium, product=_PRODUCT, serial=serial)
        self._transport = BulkOnlyTransport(
            self._disk,
            packet_bytes=_HIGH_SPEED_PACKET,
            halt_in=lambda: self._halt(BULK_IN),
            halt_out=lambda: self._halt(BULK_OUT),
        )

    @property
    def bytes_served(self) -> int:
        """Bytes that were read from the medium and delivered to a guest, ever."""
        return self._transport.bytes_read

    @property
    def bytes_written(self) -> int:
        """Bytes that guests wrote to the medium, ever."""
        return self._transport.bytes_written

    def acquire(self) -> str | None:
        """Open the image; return None, or who has it.

        Raises:
            UsbError: If it cannot be opened, or is no row of whole blocks.
        """
        if holder := self.medium.acquire():
            return holder
        if not self.medium.size or self.medium.size % scsi.BLOCK_BYTES:
            size = self.medium.size
            self.medium.release()
            raise UsbError(
                f"a stick cannot have {size} bytes",
                hint=f"Make its image a multiple of {scsi.BLOCK_BYTES} bytes.",
            )
        return None

    def release(self) -> None:
        """Close the image."""
        self.medium.release()

    def reset(self, bus: Bus) -> None:
        """Begin anew, on this bus."""
        self._bus = bus
        self._transport.reset()
        self._disk.reset()

    def control(self, setup: Setup, data: bytes) -> Answer:
        """Answer the class requests of the bulk-only transport, section 3."""
        if setup.value or setup.index:
            return STALL
        if setup.kind == _RESET and setup.length == 0:
            self._transport.reset()
            return ACK
        if setup.kind == _GET_MAX_LUN and setup.length == 1:
            return Answer(Handshake.ACK, b"\0")
        return STALL

    def may_clear_halt(self) -> bool:
        """A halt after an invalid CBW stays until the class-specific reset."""
        return not self._transport.broken

    def data_out(self, endpoint: int, data: bytes) -> Answer:
        """Take a transfer on the only OUT endpoint."""
        return self._transport.data_out(data)

    def data_in(self, endpoint: int, length: int) -> Answer:
        """Answer a transfer on the only IN endpoint."""
        return self._transport.data_in(length)

    def _halt(self, endpoint: int) -> None:
        assert self._bus is not None, "used before a reset"
        self._bus.halt(endpoint)


def _configuration(packet_bytes: int) -> Configuration:
    return Configuration(
        (
            Interface(
                0,
                UsbClass(0x08, 0x06, 0x50),  # mass storage, SCSI transparent, bulk-only
                (
                    Endpoint(BULK_IN, TransferType.BULK, packet_bytes),
                    Endpoint(BULK_OUT, TransferType.BULK, packet_bytes),
                ),
            ),
        )
    )
