"""The bulk-only transport: carries commands and data of a disk over two bulk endpoints.

Source: "USB Mass Storage Class, Bulk-Only Transport, revision 1.0". The host sends a command
block wrapper (CBW), then data moves one way or none, then the host reads a command status
wrapper (CSW)::

    COMMAND --valid CBW--> DATA_IN or DATA_OUT --all moved, or stalled--> STATUS --CSW--> COMMAND
    COMMAND --anything else--> BROKEN --class-specific reset--> COMMAND

What happens where host and device do not mean the same amount of data is settled by the
"thirteen cases" of section 6.7; the comments name them as H (host) and D (device) with n, i, o
for none, in and out.
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab.devices import scsi
from kubectl_vmredir.lab.devices.function import ACK, NAK, STALL, Answer, Handshake

if TYPE_CHECKING:
    from collections.abc import Callable

_CBW: Final = struct.Struct("<4sIIBBB16s")
_CBW_SIGNATURE: Final = b"USBC"
_CSW: Final = struct.Struct("<4sIIB")
_CSW_SIGNATURE: Final = b"USBS"
_FLAG_IN: Final = 0x80


class CommandStatus(enum.IntEnum):
    """bCSWStatus; section 5.2."""

    PASSED = 0
    FAILED = 1
    PHASE_ERROR = 2


class _Phase(enum.Enum):
    COMMAND = enum.auto()
    DATA_IN = enum.auto()
    DATA_OUT = enum.auto()
    STATUS = enum.auto()
    BROKEN = enum.auto()


class BulkOnlyTransport:
    """The device end of the transport, for one logical unit.

    Args:
        disk: Executes the commands.
        packet_bytes: Size of a full packet on the IN endpoint.
        halt_in: Halts the IN endpoint.
        halt_out: Halts the OUT endpoint.
    """

    def __init__(
        self,
        disk: scsi.Disk,
        *,
        packet_bytes: int,
        halt_in: Callable[[], None],
        halt_out: Callable[[], None],
    ) -> None:
        self._disk = disk
        self._packet_bytes = packet_bytes
        self._halt_in = halt_in
        self._halt_out = halt_out
        self._phase = _Phase.COMMAND
        self._tag = 0
        self._status = CommandStatus.PASSED
        self._residue = 0
        """Of what the host announced, what has not been processed: dCSWDataResidue."""
        self._host_bytes = 0
        """What the host still wants to move."""
        self._device_bytes = 0
        """What the device still wants to move; at most as much as the host."""
        self._source: bytes | scsi.ReadMedium = b""
        self._sink: scsi.WriteMedium | None = None
        self._moved = 0
        self._unwritten = b""
        """The start of a block: the medium takes whole ones only, so that a write which is cut
        leaves each block old or new."""
        self.bytes_read = 0
        """Bytes of the medium that went to the host."""
        self.bytes_written = 0
        """Bytes from the host that went to the medium."""

    @property
    def broken(self) -> bool:
        """Whether only a reset recovery helps: until then, both endpoints stay halted."""
        return self._phase is _Phase.BROKEN

    def reset(self) -> None:
        """Get ready for the next CBW; halts are not touched (section 3.1)."""
        self._phase = _Phase.COMMAND

    def data_out(self, data: bytes) -> Answer:
        """Take a transfer on the OUT endpoint."""
        match self._phase:
            case _Phase.COMMAND:
                return self._command(data)
            case _Phase.DATA_OUT:
                return self._take(data)
            case _Phase.DATA_IN | _Phase.STATUS | _Phase.BROKEN:
                return NAK

    def data_in(self, length: int) -> Answer:
        """Answer a transfer on the IN endpoint."""
        match self._phase:
            case _Phase.DATA_IN:
                return self._give(length)
            case _Phase.STATUS:
                self._phase = _Phase.COMMAND
                return Answer(
                    Handshake.ACK,
                    _CSW.pack(_CSW_SIGNATURE, self._tag, self._residue, self._status),
                )
            case _Phase.COMMAND | _Phase.DATA_OUT | _Phase.BROKEN:
                return NAK

    def _command(self, data: bytes) -> Answer:
        if len(data) != _CBW.size or not data.startswith(_CBW_SIGNATURE):
            return self._break()
        _, tag, length, flags, unit, cdb_length, cdb = _CBW.unpack(data)
        if flags & ~_FLAG_IN or unit or not 1 <= cdb_length <= scsi.CDB_BYTES:
            # Valid, but not meaningful (section 6.2.2): what happens then is up to us.
            return self._break()
        self._tag, self._host_bytes, self._residue = tag, length, length
        self._source, self._sink, self._device_bytes, self._moved = b"", None, 0, 0
        self._unwritten = b""
        self._status = CommandStatus.PASSED
        self._start(cdb[:cdb_length].ljust(scsi.CDB_BYTES, b"\0"), to_host=bool(flags & _FLAG_IN))
        return ACK

    def _break(self) -> Answer:
        """Section 6.6.1: an invalid CBW."""
        self._phase = _Phase.BROKEN
        self._halt_in()
        self._halt_out()
        return ACK  # the packet itself was taken; the next one meets the halt

    def _start(self, cdb: bytes, *, to_host: bool) -> None:
        match self._disk.execute(cdb):
            case scsi.Status.GOOD:
                self._begin_data(0, to_host=to_host, wrong_way=False)
            case scsi.Status.CHECK_CONDITION:
                self._status = CommandStatus.FAILED
                self._begin_data(0, to_host=to_host, wrong_way=False)
            case scsi.Reply(data):
                self._source = data
                self._begin_data(len(data), to_host=to_host, wrong_way=not to_host)
            case scsi.ReadMedium(_, length) as source:
                self._source = source
                self._begin_data(length, to_host=to_host, wrong_way=not to_host)
            case scsi.WriteMedium(_, length) as sink:
                self._sink = sink
                self._begin_data(length, to_host=to_host, wrong_way=to_host)

    def _begin_data(self, wanted: int, *, to_host: bool, wrong_way: bool) -> None:
        """Enter the data phase, or the status phase where there is nothing to move."""
        too_much = wanted > self._host_bytes
        if wanted and (too_much or wrong_way):  # cases 2, 3, 7, 8, 10 and 13
            self._status = CommandStatus.PHASE_ERROR
        self._device_bytes = min(wanted, self._host_bytes)
        if not self._host_bytes:  # Hn
            self._phase = _Phase.STATUS
        elif to_host:
            if not wanted or wrong_way:  # Hi > Dn, Hi <> Do
                self._stop_data(self._halt_in)
            else:  # Hi = Di, Hi > Di, Hi < Di
                self._phase = _Phase.DATA_IN
        elif not wanted or wrong_way or too_much:  # Ho > Dn, Ho <> Di, Ho < Do
            self._stop_data(self._halt_out)
        else:  # Ho = Do, Ho > Do
            self._phase = _Phase.DATA_OUT

    def _stop_data(self, halt: Callable[[], None]) -> None:
        """End the data phase early: the host finds a halted endpoint, clears it, reads the CSW."""
        halt()
        self._phase = _Phase.STATUS

    def _give(self, length: int) -> Answer:
        count = min(length, self._device_bytes)
        if isinstance(self._source, bytes):
            data: bytes | None = self._source[self._moved : self._moved + count]
        else:
            data = self._disk.read(self._source.offset + self._moved, count)
        if data is None:
            self._status = CommandStatus.FAILED
            self._stop_data(self._halt_in)
            return STALL
        if not isinstance(self._source, bytes):
            self.bytes_read += count
        self._moved += count
        self._device_bytes -= count
        self._residue -= count
        if self._device_bytes:
            return Answer(Handshake.ACK, data)
        if not self._residue:
            self._phase = _Phase.STATUS
            return Answer(Handshake.ACK, data)
        # Hi > Di: the device shall stall after what it has. A short packet ends the transfer
        # by itself; where there is none, the stall does.
        self._stop_data(self._halt_in)
        whole = count == length or count % self._packet_bytes
        return Answer(Handshake.ACK if whole else Handshake.STALL, data)

    def _take(self, data: bytes) -> Answer:
        if len(data) > self._host_bytes:
            self._status = CommandStatus.PHASE_ERROR
            self._stop_data(self._halt_out)
            return STALL
        assert self._sink is not None
        wanted = data[: self._device_bytes]
        pending = self._unwritten + wanted
        whole = len(pending) - len(pending) % scsi.BLOCK_BYTES
        if not self._disk.write(self._sink.offset + self._moved, pending[:whole]):
            self._status = CommandStatus.FAILED
            self._stop_data(self._halt_out)
            return STALL
        self._unwritten = pending[whole:]
        self.bytes_written += whole
        self._moved += whole
        self._device_bytes -= len(wanted)
        self._residue -= len(wanted)
        self._host_bytes -= len(data)  # Ho > Do: the rest is taken and dropped
        if not self._host_bytes:
            self._phase = _Phase.STATUS
        return ACK
