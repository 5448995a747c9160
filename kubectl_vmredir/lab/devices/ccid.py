"""What a smartcard reader and its driver say to each other over the two bulk endpoints.

Source: "Specification for Integrated Circuit(s) Cards Interface Devices, revision 1.1" (CCID),
chapters 5 and 6. The reader has one slot, and takes whole commands of the card (exchange level
"short APDU"): the protocol between reader and card stays inside.
"""

from __future__ import annotations

import enum
import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab.devices.card import MAX_COMMAND_BYTES

if TYPE_CHECKING:
    from kubectl_vmredir.lab.devices.card import Card

HEADER: Final = struct.Struct("<BIBB3s")
MAX_MESSAGE_BYTES: Final = HEADER.size + MAX_COMMAND_BYTES
"""dwMaxCCIDMessageLength."""

_MOST_ANSWERS: Final = 8
"""Answers that wait for a driver that does not read; then no command is taken."""

_T1: Final = 1
_T1_PARAMETERS: Final = bytes.fromhex("11 10 00 4d 00 20 00")
"""abProtocolDataStructure for T=1 as the answer to reset has it, section 6.1.7: the defaults of
ISO/IEC 7816-3, Fi=372 and Di=1, LRC, BWI=4 and CWI=13, blocks of 32 bytes."""


class Ask(enum.IntEnum):
    """bMessageType of the driver; section 6.1."""

    SET_PARAMETERS = 0x61
    ICC_POWER_ON = 0x62
    ICC_POWER_OFF = 0x63
    GET_SLOT_STATUS = 0x65
    SECURE = 0x69
    T0_APDU = 0x6A
    ESCAPE = 0x6B
    GET_PARAMETERS = 0x6C
    RESET_PARAMETERS = 0x6D
    ICC_CLOCK = 0x6E
    XFR_BLOCK = 0x6F
    MECHANICAL = 0x71
    ABORT = 0x72
    SET_DATA_RATE_AND_CLOCK_FREQUENCY = 0x73


class Reply(enum.IntEnum):
    """bMessageType of the reader; section 6.2."""

    DATA_BLOCK = 0x80
    SLOT_STATUS = 0x81
    PARAMETERS = 0x82
    ESCAPE = 0x83
    DATA_RATE_AND_CLOCK_FREQUENCY = 0x84


_REPLIES: Final = {
    Ask.SET_PARAMETERS: Reply.PARAMETERS,
    Ask.GET_PARAMETERS: Reply.PARAMETERS,
    Ask.RESET_PARAMETERS: Reply.PARAMETERS,
    Ask.ICC_POWER_ON: Reply.DATA_BLOCK,
    Ask.XFR_BLOCK: Reply.DATA_BLOCK,
    Ask.SECURE: Reply.DATA_BLOCK,
    Ask.ESCAPE: Reply.ESCAPE,
    Ask.SET_DATA_RATE_AND_CLOCK_FREQUENCY: Reply.DATA_RATE_AND_CLOCK_FREQUENCY,
}
"""Table 6.1-1; what is not in here is answered with SLOT_STATUS."""


class IccStatus(enum.IntEnum):
    """bmICCStatus, whether there is a card; table 6.2-3."""

    ACTIVE = 0
    INACTIVE = 1
    ABSENT = 2


class Fault(enum.IntEnum):
    """bError of a command that failed; table 6.2-2. Small ones name the field at fault."""

    NOT_SUPPORTED = 0x00
    BAD_LENGTH = 0x01
    BAD_SLOT = 0x05
    BAD_SELECTION = 0x07
    """Of bPowerSelect or bProtocolNum."""
    MUTE = 0xFE
    """There is no card, or it has no power."""
    ABORTED = 0xFF


_FAILED: Final = 1 << 6
"""bmCommandStatus in bStatus."""


@dataclass(frozen=True, slots=True)
class _Message:
    """A message of the driver."""

    kind: int
    slot: int
    sequence: int
    options: bytes
    data: bytes
    whole: bool
    """Whether dwLength is its length."""


class Slot:
    """The only slot of a reader, and the messages about it.

    Args:
        card: The card that may be in it.
    """

    def __init__(self, card: Card) -> None:
        self._card = card
        self._icc = IccStatus.INACTIVE
        self._answers: deque[bytes] = deque()
        self._abort_requested: int | None = None
        """bSeq of an ABORT request whose message has not come; section 5.3.1."""
        self._abort_message: int | None = None
        """bSeq of an abort message, come last, whose request has not come."""

    @property
    def present(self) -> bool:
        """Whether the card is in the slot."""
        return self._icc is not IccStatus.ABSENT

    @property
    def powered(self) -> bool:
        """Whether the card has power."""
        return self._icc is IccStatus.ACTIVE

    def insert(self) -> None:
        """Put the card in; it has no power yet."""
        if not self.present:
            self._icc = IccStatus.INACTIVE

    def remove(self) -> None:
        """Take the card out."""
        self._icc = IccStatus.ABSENT

    def reset(self) -> None:
        """Forget the conversation and take the power from the card."""
        self._answers.clear()
        self._abort_requested = self._abort_message = None
        self._power_off()

    def take(self, message: bytes) -> bool:
        """Do what a message asks for; False if too many answers wait already."""
        if len(self._answers) >= _MOST_ANSWERS:
            return False
        if len(message) >= HEADER.size:  # less is nothing that an answer could be given to
            kind, length, slot, sequence, options = HEADER.unpack_from(message)
            data = message[HEADER.size :]
            self._handle(_Message(kind, slot, sequence, options, data, whole=len(data) == length))
        return True

    def next_answer(self) -> bytes | None:
        """Remove and return the answer that has waited longest."""
        return self._answers.popleft() if self._answers else None

    def abort(self, slot: int, sequence: int) -> bool:
        """Take the request ABORT, which goes with a message; False if there is no such slot."""
        if slot:
            return False
        if self._abort_message == sequence:
            self._abort_message = None
            self._say(Reply.SLOT_STATUS, sequence)
        else:
            self._abort_requested = sequence
        return True

    def _handle(self, message: _Message) -> None:
        self._abort_message = None
        if message.slot:
            self._fail(message, Fault.BAD_SLOT, IccStatus.ABSENT)
        elif not message.whole:
            self._fail(message, Fault.BAD_LENGTH)
        elif message.kind == Ask.ABORT:
            self._handle_abort(message.sequence)
        elif self._abort_requested is not None:
            self._fail(message, Fault.ABORTED)
        else:
            self._do(message)

    def _handle_abort(self, sequence: int) -> None:
        if self._abort_requested == sequence:
            self._abort_requested = None
            self._say(Reply.SLOT_STATUS, sequence)
        else:
            self._abort_message = sequence

    def _do(self, message: _Message) -> None:
        match message.kind:
            case Ask.GET_SLOT_STATUS:
                self._say(Reply.SLOT_STATUS, message.sequence)
            case Ask.ICC_POWER_OFF:
                self._power_off()
                self._say(Reply.SLOT_STATUS, message.sequence)
            case Ask.ICC_POWER_ON if message.options[0] > 3:
                self._fail(message, Fault.BAD_SELECTION)
            case Ask.ICC_POWER_ON if self.present:
                self._icc = IccStatus.ACTIVE
                self._say(Reply.DATA_BLOCK, message.sequence, data=self._card.reset())
            case Ask.XFR_BLOCK if self.powered:
                answer = self._card.transmit(message.data)
                self._say(Reply.DATA_BLOCK, message.sequence, data=answer)
            case Ask.SET_PARAMETERS if message.options[0] != _T1:
                self._fail(message, Fault.BAD_SELECTION)
            case Ask.SET_PARAMETERS | Ask.GET_PARAMETERS | Ask.RESET_PARAMETERS if self.powered:
                # The reader chooses them itself, so what is set changes nothing.
                self._say(Reply.PARAMETERS, message.sequence, detail=_T1, data=_T1_PARAMETERS)
            case (
                Ask.ICC_POWER_ON
                | Ask.XFR_BLOCK
                | Ask.SET_PARAMETERS
                | Ask.GET_PARAMETERS
                | Ask.RESET_PARAMETERS
            ):
                self._fail(message, Fault.MUTE)
            case _:
                self._fail(message, Fault.NOT_SUPPORTED)

    def _power_off(self) -> None:
        if self.present:
            self._icc = IccStatus.INACTIVE

    def _fail(self, message: _Message, fault: Fault, icc: IccStatus | None = None) -> None:
        try:
            reply = _REPLIES.get(Ask(message.kind), Reply.SLOT_STATUS)
        except ValueError:
            reply = Reply.SLOT_STATUS
        status = _FAILED | (self._icc if icc is None else icc)
        options = bytes((status, fault, 0))
        self._answers.append(HEADER.pack(reply, 0, message.slot, message.sequence, options))

    def _say(self, reply: Reply, sequence: int, *, detail: int = 0, data: bytes = b"") -> None:
        """Answer a command that was done.

        Args:
            reply: Type of the answer.
            sequence: bSeq of the command.
            detail: bChainParameter, bClockStatus or bProtocolNum, as the type has it.
            data: What follows the header.
        """
        options = bytes((self._icc, 0, detail))
        self._answers.append(HEADER.pack(reply, len(data), 0, sequence, options) + data)
