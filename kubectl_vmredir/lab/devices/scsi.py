"""A SCSI disk: commands in, outcomes out. Knows no transport.

Sources: SPC-2 (INQUIRY, MODE SENSE, PREVENT ALLOW MEDIUM REMOVAL, REQUEST SENSE, TEST UNIT
READY) and SBC (READ CAPACITY, READ, WRITE, START STOP UNIT, SYNCHRONIZE CACHE). All integers
are big-endian.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kubectl_vmredir.lab.devices.medium import Medium

BLOCK_BYTES: Final = 512
CDB_BYTES: Final = 16
"""Command descriptor blocks are padded to this with zeros."""

_VENDOR: Final = "VMREDIR"
_REVISION: Final = "1.0"
_DIRECT_ACCESS: Final = 0x00
_REMOVABLE: Final = 0x80
_SPC_2: Final = 0x04
_ALL_PAGES: Final = 0x3F


class Opcode(enum.IntEnum):
    """The commands that the disk knows."""

    TEST_UNIT_READY = 0x00
    REQUEST_SENSE = 0x03
    INQUIRY = 0x12
    MODE_SENSE_6 = 0x1A
    START_STOP_UNIT = 0x1B
    PREVENT_ALLOW_MEDIUM_REMOVAL = 0x1E
    READ_CAPACITY_10 = 0x25
    READ_10 = 0x28
    WRITE_10 = 0x2A
    SYNCHRONIZE_CACHE_10 = 0x35
    MODE_SENSE_10 = 0x5A


_HEED_NO_ATTENTION: Final = frozenset({Opcode.INQUIRY, Opcode.REQUEST_SENSE})
"""Commands that are carried out even while a unit attention waits; SAM-2 section 5.9.5."""

_NEED_MEDIUM: Final = frozenset(
    {
        Opcode.TEST_UNIT_READY,
        Opcode.READ_CAPACITY_10,
        Opcode.READ_10,
        Opcode.WRITE_10,
        Opcode.SYNCHRONIZE_CACHE_10,
    }
)


@dataclass(frozen=True, slots=True)
class Sense:
    """Sense key, additional sense code and its qualifier; SPC-2 section 7.20."""

    key: int
    code: int = 0
    qualifier: int = 0

    def encode(self) -> bytes:
        """Return sense data in the fixed format."""
        return struct.pack(
            ">BxB4xB4xBB4x", 0x70, self.key, 10, self.code, self.qualifier
        )  # 10 bytes follow the length


NO_SENSE: Final = Sense(0x0)
MEDIUM_NOT_PRESENT: Final = Sense(0x2, 0x3A)
WRITE_ERROR: Final = Sense(0x3, 0x0C)
UNRECOVERED_READ_ERROR: Final = Sense(0x3, 0x11)
INVALID_OPCODE: Final = Sense(0x5, 0x20)
LBA_OUT_OF_RANGE: Final = Sense(0x5, 0x21)
INVALID_FIELD_IN_CDB: Final = Sense(0x5, 0x24)
SAVING_NOT_SUPPORTED: Final = Sense(0x5, 0x39)
REMOVAL_PREVENTED: Final = Sense(0x5, 0x53, 0x02)
MEDIUM_CHANGED: Final = Sense(0x6, 0x28)
WRITE_PROTECTED: Final = Sense(0x7, 0x27)


class Status(enum.Enum):
    """Outcome of a command without data."""

    GOOD = enum.auto()
    CHECK_CONDITION = enum.auto()
    """Failed: REQUEST SENSE tells why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The command sends this."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ReadMedium:
    """The command sends this part of the medium; offset and length in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class WriteMedium:
    """The command takes this part of the medium; offset and length in bytes."""

    offset: int
    length: int


Outcome = Status | Reply | ReadMedium | WriteMedium


class Disk:
    """A removable disk with one logical unit.

    The transport executes a command, then moves the data of its outcome with :meth:`read`
    and :meth:`write`.

    Args:
        medium: What is on it.
        product: Product identification of INQUIRY, at most 16 characters.
        serial: Unit serial number.
    """

    def __init__(self, medium: Medium, *, product: str, serial: str) -> None:
        self._medium = medium
        self._product = product
        self._serial = serial
        self._sense = NO_SENSE
        self._attention: Sense | None = None
        self._loaded = True
        self._removal_prevented = False

    def reset(self) -> None:
        """Go back to the state after power on.

        The unit attention is what sticks have then: "not ready to ready change" (28h), where
        fixed disks say "power on or reset" (29h).
        """
        self._sense, self._attention = NO_SENSE, MEDIUM_CHANGED
        self._loaded, self._removal_prevented = True, False

    def execute(self, cdb: bytes) -> Outcome:
        """Start a command, given as a block of :data:`CDB_BYTES`."""
        assert len(cdb) == CDB_BYTES
        try:
            opcode = Opcode(cdb[0])
        except ValueError:
            return self._fail(INVALID_OPCODE)
        if opcode is not Opcode.REQUEST_SENSE:
            self._sense = NO_SENSE
        if self._attention is not None and opcode not in _HEED_NO_ATTENTION:
            attention, self._attention = self._attention, None
            return self._fail(attention)
        if not self._loaded and opcode in _NEED_MEDIUM:
            return self._fail(MEDIUM_NOT_PRESENT)
        match opcode:
            case Opcode.TEST_UNIT_READY:
                return Status.GOOD
            case Opcode.REQUEST_SENSE:
                return self._request_sense(cdb)
            case Opcode.INQUIRY:
                return self._inquiry(cdb)
            case Opcode.MODE_SENSE_6:
                return self._mode_sense_6(cdb)
            case Opcode.MODE_SENSE_10:
                return self._mode_sense_10(cdb)
            case Opcode.START_STOP_UNIT:
                return self._start_stop(cdb)
            case Opcode.PREVENT_ALLOW_MEDIUM_REMOVAL:
                self._removal_prevented = bool(cdb[4] & 0x01)
                return Status.GOOD
            case Opcode.READ_CAPACITY_10:
                return Reply(struct.pack(">II", self._blocks - 1, BLOCK_BYTES))
            case Opcode.READ_10:
                return self._access(cdb, ReadMedium)
            case Opcode.WRITE_10:
                if self._medium.read_only:
                    return self._fail(WRITE_PROTECTED)
                return self._access(cdb, WriteMedium)
            case Opcode.SYNCHRONIZE_CACHE_10:
                # Nothing to do: each write went to the medium at once, there is no cache.
                return Status.GOOD

    def read(self, offset: int, length: int) -> bytes | None:
        """Return bytes of the medium; None if it failed, which makes sense data."""
        try:
            data = self._medium.read(offset, length)
        except OSError:
            data = b""
        if len(data) == length:
            return data
        self._sense = UNRECOVERED_READ_ERROR
        return None

    def write(self, offset: int, data: bytes) -> bool:
        """Write bytes to the medium; False if it failed, which makes sense data."""
        try:
            self._medium.write(offset, data)
        except OSError:
            self._sense = WRITE_ERROR
            return False
        return True

    @property
    def _blocks(self) -> int:
        return self._medium.size // BLOCK_BYTES

    def _fail(self, sense: Sense) -> Status:
        self._sense = sense
        return Status.CHECK_CONDITION

    def _request_sense(self, cdb: bytes) -> Outcome:
        if cdb[1] & 0x01:  # DESC: descriptor format
            return self._fail(INVALID_FIELD_IN_CDB)
        sense, self._sense = self._sense, NO_SENSE
        if sense is NO_SENSE and self._attention is not None:
            sense, self._attention = self._attention, None
        return Reply(sense.encode()[: cdb[4]])

    def _inquiry(self, cdb: bytes) -> Outcome:
        vital, page = cdb[1] & 0x01, cdb[2]
        (allocation,) = struct.unpack_from(">H", cdb, 3)
        identity = f"{_VENDOR:8.8}{self._product:16.16}".encode("ascii", "replace")
        serial = self._serial.encode("ascii", "replace")[:64]
        match vital, page:
            case 0, 0:
                return Reply(
                    (
                        bytes((_DIRECT_ACCESS, _REMOVABLE, _SPC_2, 2, 31, 0, 0, 0))
                        + identity
                        + f"{_REVISION:4.4}".encode()
                    )[:allocation]
                )
            case 1, 0x00:  # supported vital product data pages
                body = bytes((0x00, 0x80, 0x83))
            case 1, 0x80:  # unit serial number
                body = serial
            case 1, 0x83:  # device identification: one T10 vendor identification, in ASCII
                body = bytes((0x02, 0x01, 0x00, len(identity + serial))) + identity + serial
            case _:
                return self._fail(INVALID_FIELD_IN_CDB)
        return Reply((struct.pack(">BBH", _DIRECT_ACCESS, page, len(body)) + body)[:allocation])

    def _start_stop(self, cdb: bytes) -> Outcome:
        load_eject, start = bool(cdb[4] & 0x02), bool(cdb[4] & 0x01)
        if not load_eject or start is self._loaded:
            return Status.GOOD
        if start:
            self._loaded, self._attention = True, MEDIUM_CHANGED
        elif self._removal_prevented:
            return self._fail(REMOVAL_PREVENTED)
        else:
            self._loaded = False
        return Status.GOOD

    def _mode_sense_6(self, cdb: bytes) -> Outcome:
        pages = self._mode_pages(cdb)
        if isinstance(pages, Sense):
            return self._fail(pages)
        header = bytes((3 + len(pages), 0, self._device_specific, 0))
        return Reply((header + pages)[: cdb[4]])

    def _mode_sense_10(self, cdb: bytes) -> Outcome:
        pages = self._mode_pages(cdb)
        if isinstance(pages, Sense):
            return self._fail(pages)
        header = struct.pack(">HBBBxH", 6 + len(pages), 0, self._device_specific, 0, 0)
        (allocation,) = struct.unpack_from(">H", cdb, 7)
        return Reply((header + pages)[:allocation])

    @property
    def _device_specific(self) -> int:
        return 0x80 if self._medium.read_only else 0x00  # WP

    def _mode_pages(self, cdb: bytes) -> bytes | Sense:
        """Return the caching page, the only one: no write cache, all else as it comes."""
        control, page, subpage = cdb[2] >> 6, cdb[2] & 0x3F, cdb[3]
        if control == 3:
            return SAVING_NOT_SUPPORTED
        if page not in (0x08, _ALL_PAGES) or subpage not in (0x00, 0xFF):
            return INVALID_FIELD_IN_CDB
        return bytes((0x08, 0x12)) + bytes(18)

    def _access(self, cdb: bytes, what: type[ReadMedium | WriteMedium]) -> Outcome:
        (block,) = struct.unpack_from(">I", cdb, 2)
        (count,) = struct.unpack_from(">H", cdb, 7)
        if block + count > self._blocks:
            return self._fail(LBA_OUT_OF_RANGE)
        return what(block * BLOCK_BYTES, count * BLOCK_BYTES) if count else Status.GOOD
