"""A smartcard with one application, which holds one file that everybody may read.

Sources: ISO/IEC 7816-3 (answer to reset) and 7816-4 (commands, status words). Commands are short
APDUs: at most 255 bytes of data, and 256 expected back.
"""

from __future__ import annotations

import enum
import functools
import operator
import struct
from dataclasses import dataclass
from typing import Final, Self

AID: Final = b"\xf0vmredir"
"""Name of the application. The F in front: proprietary, registered nowhere (7816-5)."""

MAX_COMMAND_BYTES: Final = 4 + 1 + 255 + 1
"""The longest short APDU."""

_HISTORICAL: Final = b"vmredir"
_SELECT: Final = 0xA4
_READ_BINARY: Final = 0xB0
_BY_NAME: Final = 0x04
"""P1 of SELECT: by the name of an application; 7816-4 table "P1 in the SELECT command"."""
_WITH_CONTROL_INFORMATION: Final = 0x00
_WITHOUT_ANSWER: Final = 0x0C
"""P2 of SELECT: what to answer."""
_SHORT_FILE_ID: Final = 0x80
"""Bit of P1 of READ BINARY: the rest is no offset."""


class Word(enum.IntEnum):
    """Status words; 7816-4 section 5.6."""

    OK = 0x9000
    END_OF_FILE = 0x6282
    WRONG_LENGTH = 0x6700
    NO_FILE_SELECTED = 0x6986
    NOT_FOUND = 0x6A82
    WRONG_PARAMETERS = 0x6A86
    WRONG_OFFSET = 0x6B00
    UNKNOWN_INSTRUCTION = 0x6D00
    UNKNOWN_CLASS = 0x6E00


@dataclass(frozen=True, slots=True)
class Command:
    """A command APDU; 7816-4 section 5.1.

    Attributes:
        header: CLA, INS, P1, P2.
        data: What the card gets.
        expected: Bytes that it may answer: 1 to 256, and 0 for none.
    """

    header: tuple[int, int, int, int]
    data: bytes = b""
    expected: int = 0

    @classmethod
    def decode(cls, apdu: bytes) -> Self | None:
        """Read a short APDU; None if its lengths do not add up."""
        if len(apdu) < 4:
            return None
        header, body = (apdu[0], apdu[1], apdu[2], apdu[3]), apdu[4:]
        if len(body) < 2:
            return cls(header, expected=(body[0] or 256) if body else 0)
        data, rest = body[1 : 1 + body[0]], body[1 + body[0] :]
        if not data or len(data) < body[0] or len(rest) > 1:
            return None
        return cls(header, data, (rest[0] or 256) if rest else 0)


class Card:
    """The card, in a reader or not.

    Args:
        content: What is in its file; at most 32 KiB can be reached.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._selected = False

    def reset(self) -> bytes:
        """Power it or reset it: nothing is selected any more. Return the answer to reset.

        It speaks T=1 at the slowest speed, which every reader can do; 7816-3 section 8.2.
        """
        self._selected = False
        body = bytes((0x80 | len(_HISTORICAL), 0x01)) + _HISTORICAL
        return b"\x3b" + body + bytes((functools.reduce(operator.xor, body),))

    def transmit(self, apdu: bytes) -> bytes:
        """Do a command; return the data and the status word."""
        data, word = self._do(apdu)
        return data + struct.pack(">H", word)

    def _do(self, apdu: bytes) -> tuple[bytes, Word]:
        if (command := Command.decode(apdu)) is None:
            return b"", Word.WRONG_LENGTH
        match command.header:
            case (0x00, code, first, second) if code == _SELECT:
                return self._select(first, second, command)
            case (0x00, code, first, second) if code == _READ_BINARY:
                return self._read(first, second, command)
            case (0x00, _, _, _):
                return b"", Word.UNKNOWN_INSTRUCTION
            case _:
                return b"", Word.UNKNOWN_CLASS

    def _select(self, how: int, answer: int, command: Command) -> tuple[bytes, Word]:
        if how != _BY_NAME or answer not in (_WITH_CONTROL_INFORMATION, _WITHOUT_ANSWER):
            return b"", Word.WRONG_PARAMETERS
        if command.data != AID:
            return b"", Word.NOT_FOUND
        self._selected = True
        if answer == _WITHOUT_ANSWER:
            return b"", Word.OK
        name = struct.pack("BB", 0x84, len(AID)) + AID
        return (struct.pack("BB", 0x6F, len(name)) + name)[: command.expected], Word.OK

    def _read(self, high: int, low: int, command: Command) -> tuple[bytes, Word]:
        if high & _SHORT_FILE_ID:
            return b"", Word.WRONG_PARAMETERS
        if command.data or not command.expected:
            return b"", Word.WRONG_LENGTH
        if not self._selected:
            return b"", Word.NO_FILE_SELECTED
        offset = high << 8 | low
        if offset >= len(self._content):
            return b"", Word.WRONG_OFFSET
        data = self._content[offset : offset + command.expected]
        # 256 is "as much as there is": only who asks for less than that is told of the end.
        short = len(data) < command.expected < 256
        return data, Word.END_OF_FILE if short else Word.OK
