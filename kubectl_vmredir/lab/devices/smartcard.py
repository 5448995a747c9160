"""A smartcard reader with a card in it: CCID.

Source: "Specification for Integrated Circuit(s) Cards Interface Devices, revision 1.1" (CCID).
"""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab.devices.card import Card
from kubectl_vmredir.lab.devices.ccid import MAX_MESSAGE_BYTES, Slot
from kubectl_vmredir.lab.devices.descriptors import (
    Configuration,
    Description,
    Endpoint,
    Interface,
)
from kubectl_vmredir.lab.devices.function import ACK, NAK, STALL, Answer, Handshake, Setup
from kubectl_vmredir.model import Speed, UsbClass, VendorProduct
from kubectl_vmredir.protocol.constants import TransferType

if TYPE_CHECKING:
    from kubectl_vmredir.lab.devices.function import Bus

IDS: Final = VendorProduct(0x0E0F, 0x0004)
"""libccid drives no reader that is not on its list; there, this is a reader made of software
("VMware Virtual USB CCID"), and there is no quirk for it."""

INTERRUPT_IN: Final = 0x81
BULK_IN: Final = 0x82
BULK_OUT: Final = 0x02

_PACKET: Final = 64
_CCID_TYPE: Final = 0x21
"""bDescriptorType of the class descriptor; section 5.1."""
_ABORT: Final = (0x21, 0x01)
"""bmRequestType and bRequest; section 5.3.1."""
_NOTIFY_SLOT_CHANGE: Final = 0x50
"""Section 6.3.1."""


class Feature(enum.IntFlag):
    """Bits of dwFeatures; table 5.1-1."""

    PARAMETERS_FROM_ATR = 0x02
    VOLTAGE_SELECTION = 0x08
    CLOCK_CHANGE = 0x10
    RATE_CHANGE = 0x20
    PARAMETERS_NEGOTIATION = 0x40
    INFORMATION_FIELD_SIZE_EXCHANGE = 0x400
    SHORT_APDU = 0x20000


class SmartcardReader:
    """A reader with one slot.

    Args:
        serial: Its serial number.
        content: What is in the file of its card; None for a text with the serial number.
    """

    def __init__(self, serial: str, content: bytes | None = None) -> None:
        self.description = Description(
            ids=IDS,
            manufacturer="kubectl-vmredir",
            product="Virtual Smartcard Reader",
            serial=serial,
            speed=Speed.FULL,
            configuration=_CONFIGURATION,
        )
        text = f"The virtual card in reader {serial}.\n"
        self._slot = Slot(Card(text.encode() if content is None else content))
        self._bus: Bus | None = None
        self._changed = False
        """Whether the card came or went since the host was told."""

    @property
    def present(self) -> bool:
        """Whether the card is in the reader."""
        return self._slot.present

    def insert_card(self) -> None:
        """Put the card in."""
        self._slot.insert()
        self._announce()

    def remove_card(self) -> None:
        """Take the card out."""
        self._slot.remove()
        self._announce()

    def acquire(self) -> str | None:
        """Nobody else can have it."""
        return None

    def release(self) -> None:
        """Let go of the bus."""
        self._bus = None

    def reset(self, bus: Bus) -> None:
        """Begin anew, on this bus; a card that is there is news to the host (section 6.3.1)."""
        self._bus = bus
        self._slot.reset()
        self._changed = self._slot.present

    def control(self, setup: Setup, data: bytes) -> Answer:
        """Answer the class requests; with no clocks or rates to choose from, there is one."""
        if setup.kind != _ABORT or setup.index or setup.length:
            return STALL
        return ACK if self._slot.abort(setup.value & 0xFF, setup.value >> 8) else STALL

    def may_clear_halt(self) -> bool:
        """Nothing halts for good."""
        return True

    def data_out(self, endpoint: int, data: bytes) -> Answer:
        """Take a message on the only OUT endpoint: a transfer holds one whole one."""
        return ACK if self._slot.take(data) else NAK

    def data_in(self, endpoint: int, length: int) -> Answer:
        """Give the next answer, or say that the card came or went."""
        if endpoint == INTERRUPT_IN:
            return self._notify()
        answer = self._slot.next_answer()
        return NAK if answer is None else Answer(Handshake.ACK, answer)

    def _announce(self) -> None:
        self._changed = True
        if self._bus is not None:
            self._bus.wake()

    def _notify(self) -> Answer:
        if not self._changed:
            return NAK
        self._changed = False
        state = 0b10 | self._slot.present  # bit 1: it changed
        return Answer(Handshake.ACK, bytes((_NOTIFY_SLOT_CHANGE, state)))


_CCID_DESCRIPTOR: Final = struct.pack(
    "<BBHBBIIIBIIBIIIIIBBHBB",
    54,
    _CCID_TYPE,
    0x0110,  # bcdCCID
    0,  # bMaxSlotIndex: one slot
    0b111,  # bVoltageSupport: 5, 3 and 1.8 V
    1 << 1,  # dwProtocols: T=1
    4000,  # dwDefaultClock, in kHz
    4000,  # dwMaximumClock
    0,  # bNumClockSupported: no choice
    10753,  # dwDataRate, in bit/s: the clock over 372
    10753,  # dwMaxDataRate
    0,  # bNumDataRatesSupported: no choice
    254,  # dwMaxIFSD
    0,  # dwSynchProtocols
    0,  # dwMechanical
    Feature.PARAMETERS_FROM_ATR
    | Feature.VOLTAGE_SELECTION
    | Feature.CLOCK_CHANGE
    | Feature.RATE_CHANGE
    | Feature.PARAMETERS_NEGOTIATION
    | Feature.INFORMATION_FIELD_SIZE_EXCHANGE
    | Feature.SHORT_APDU,
    MAX_MESSAGE_BYTES,
    0xFF,  # bClassGetResponse: the class of the command
    0xFF,  # bClassEnvelope
    0,  # wLcdLayout: no display
    0,  # bPINSupport: no keys
    1,  # bMaxCCIDBusySlots
)
"""Section 5.1."""

_CONFIGURATION: Final = Configuration(
    (
        Interface(
            0,
            UsbClass(0x0B, 0x00, 0x00),  # smart card, CCID
            (
                Endpoint(INTERRUPT_IN, TransferType.INTERRUPT, 8, interval=16),
                Endpoint(BULK_IN, TransferType.BULK, _PACKET),
                Endpoint(BULK_OUT, TransferType.BULK, _PACKET),
            ),
            extra=_CCID_DESCRIPTOR,
        ),
    )
)
