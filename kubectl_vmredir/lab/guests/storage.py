"""How Linux drives a USB stick, as scripts of the simulated kernel: bulk-only transport and SCSI.

Source: "USB Mass Storage Class, Bulk-Only Transport 1.0"; the commands and their order are
those of usb-storage and sd of Linux 6.1, as recorded in QEMU 7.2 (the twin test).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab.guests.enumeration import PortName, printable, reset_device
from kubectl_vmredir.lab.guests.procedure import Print
from kubectl_vmredir.lab.guests.transfers import Bulk, Outcome, Setup

if TYPE_CHECKING:
    from kubectl_vmredir.lab.guests.procedure import Script

CLASS: Final = (8, 6, 0x50)
"""Mass storage, SCSI transparent command set, bulk-only transport."""

_BLOCK_BYTES: Final = 512
_ATTEMPTS: Final = 5
"""SD_MAX_RETRIES."""

_CBW: Final = struct.Struct("<4sIIBBB16s")
_CSW: Final = struct.Struct("<4sIIB")

_TEST_UNIT_READY: Final = bytes(6)
_REQUEST_SENSE: Final = bytes([0x03, 0, 0, 0, 18, 0])
_INQUIRY: Final = bytes([0x12, 0, 0, 0, 36, 0])
_MODE_SENSE: Final = bytes([0x1A, 0, 0x3F, 0, 192, 0])
_LOCK_DOOR: Final = bytes([0x1E, 0, 0, 0, 1, 0])
_READ_CAPACITY: Final = bytes([0x25]) + bytes(9)
_READ: Final = struct.Struct(">BBIBHB")
_READ_10: Final = 0x28


@dataclass(frozen=True, slots=True)
class Disk:
    """What is needed to talk to a disk.

    Attributes:
        name: Of the USB device.
        serial: Names the disk, in plain text.
        configuration: Number of its configuration.
        interface: Number of its interface.
        bulk_in: Endpoint address.
        bulk_out: Endpoint address.
        host: Number of the SCSI host.
        node: Of the block device, for instance ``sda``.
    """

    name: PortName
    serial: str
    configuration: int
    interface: int
    bulk_in: int
    bulk_out: int
    host: int
    node: str


@dataclass(frozen=True, slots=True)
class Probed:
    """A disk that answered.

    Attributes:
        size: In bytes.
        tag: Next tag for its commands.
    """

    size: int
    tag: int


@dataclass(frozen=True, slots=True)
class Read:
    """What came of a read.

    Attributes:
        data: None if it failed.
        tag: Next tag for the disk's commands.
    """

    data: bytes | None
    tag: int


def probe(disk: Disk) -> Script[Probed | None]:
    """Find out what it is; None if it does not answer as a disk should."""
    transport = _Transport(disk, 1)
    yield Print(
        f"usb-storage {disk.name.port}:1.{disk.interface}: USB Mass Storage device detected"
    )
    yield Print(f"scsi host{disk.host}: usb-storage {disk.name.port}:1.{disk.interface}")
    yield Setup(0xA1, 0xFE, 0, disk.interface, 1)
    inquiry = yield from transport.run(_INQUIRY, 36)
    if inquiry is None:
        return None
    names = printable(inquiry[8:36].decode("ascii", errors="replace")).ljust(28)
    address = f"{disk.host}:0:0:0"
    yield Print(
        f"scsi {address}: Direct-Access     {names[:8]} {names[8:24]} {names[24:]} PQ: 0 ANSI: 4"
    )
    yield from transport.run(_TEST_UNIT_READY, 0)
    capacity = yield from transport.run(_READ_CAPACITY, 8)
    if capacity is None or len(capacity) < 8:
        return None
    last, block_bytes = struct.unpack(">II", capacity)
    if block_bytes != _BLOCK_BYTES:
        yield Print(f"sd {address}: [{disk.node}] Unsupported sector size {block_bytes}.")
        return None
    yield Print(f"sd {address}: [{disk.node}] {last + 1} 512-byte logical blocks")
    yield from transport.run(_read_command(0, 1), _BLOCK_BYTES)
    yield from transport.run(_MODE_SENSE, 192)
    yield from transport.run(_LOCK_DOOR, 0)
    yield Print(f"sd {address}: [{disk.node}] Attached SCSI removable disk")
    return Probed((last + 1) * _BLOCK_BYTES, transport.tag)


def read(disk: Disk, tag: int, offset: int, length: int) -> Script[Read]:
    """Read whole blocks."""
    transport = _Transport(disk, tag)
    if (yield from transport.run(_TEST_UNIT_READY, 0)) is None:
        return Read(None, transport.tag)
    command = _read_command(offset // _BLOCK_BYTES, length // _BLOCK_BYTES)
    data = yield from transport.run(command, length)
    if data is not None and len(data) < length:
        data = None
    return Read(data, transport.tag)


class _Transport:
    """Runs SCSI commands, and tries them again as Linux does."""

    def __init__(self, disk: Disk, tag: int) -> None:
        self._disk = disk
        self.tag = tag

    def run(self, command: bytes, length: int) -> Script[bytes | None]:
        """Run a command that reads ``length`` bytes; None if it failed for good."""
        for _ in range(_ATTEMPTS):
            data, status = yield from self._once(command, length)
            if status == 0:
                return data
            if status is None:
                # Something went wrong on the bus; another attempt may work after a reset.
                yield from reset_device(self._disk.name, self._disk.configuration)
            else:
                sense, _ = yield from self._once(_REQUEST_SENSE, 18)
                if len(sense) < 3 or sense[2] & 0x0F not in (2, 6):  # not ready, unit attention
                    return None
        return None

    def _once(self, command: bytes, length: int) -> Script[tuple[bytes, int | None]]:
        """Return data and status of the CSW; the status is None if there was no good CSW."""
        tag, self.tag = self.tag, (self.tag + 1) & 0xFFFFFFFF
        flags = 0x80 if length else 0
        cbw = _CBW.pack(b"USBC", tag, length, flags, 0, len(command), command)
        if not (yield Bulk(self._disk.bulk_out, len(cbw), cbw)).good:
            return b"", None
        data = b""
        if length:
            answer = yield Bulk(self._disk.bulk_in, length)
            data = answer.data
            if answer.outcome is Outcome.STALL:
                yield self._clear_halt()
            elif not answer.good:
                return b"", None
        answer = yield Bulk(self._disk.bulk_in, _CSW.size)
        if answer.outcome is Outcome.STALL:
            yield self._clear_halt()
            answer = yield Bulk(self._disk.bulk_in, _CSW.size)
        if not answer.good or len(answer.data) != _CSW.size:
            return b"", None
        signature, its_tag, _, status = _CSW.unpack(answer.data)
        if signature != b"USBS" or its_tag != tag or status > 1:
            return b"", None
        return data, status

    def _clear_halt(self) -> Setup:
        return Setup(0x02, 1, 0, self._disk.bulk_in)


def _read_command(block: int, count: int) -> bytes:
    return _READ.pack(_READ_10, 0, block, 0, count, 0)
