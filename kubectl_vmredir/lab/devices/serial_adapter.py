"""A USB serial adapter: CDC, abstract control model, with a plug that sends back what it gets.

Sources: "USB Class Definitions for Communications Devices, revision 1.2" (CDC) and its "PSTN
Devices" subclass specification, revision 1.2. The plug joins transmit to receive, and DTR to
carrier (DCD) and DSR, as a loopback plug on a nine-pin connector does.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from kubectl_vmredir.lab.devices.descriptors import (
    Configuration,
    Description,
    DescriptorType,
    Endpoint,
    Interface,
)
from kubectl_vmredir.lab.devices.function import ACK, NAK, STALL, Answer, Handshake, Setup
from kubectl_vmredir.model import Speed, UsbClass, VendorProduct
from kubectl_vmredir.protocol.constants import TransferType

if TYPE_CHECKING:
    from kubectl_vmredir.lab.devices.function import Bus

IDS: Final = VendorProduct(0x1209, 0x0003)
"""pid.codes' ids for private tests: no driver has a quirk for them."""

INTERRUPT_IN: Final = 0x81
BULK_IN: Final = 0x82
BULK_OUT: Final = 0x02

ECHO_BYTES: Final = 64 << 10
"""With so much unread, the adapter takes nothing more."""

_CONTROL: Final = 0
"""Number of the communications interface, which takes the requests."""
_DATA: Final = 1
"""Number of the data interface."""
_PACKET: Final = 64
_NOTIFICATION_PACKET: Final = 16

_DTR: Final = 1 << 0
"""Bit of SET_CONTROL_LINE_STATE; PSTN section 6.3.12."""
_SERIAL_STATE: Final = struct.Struct("<BBHHHH")
_NOTIFICATION: Final = (0xA1, 0x20)
"""bmRequestType and bNotification of SERIAL_STATE; PSTN section 6.5.4."""


class Request(enum.Enum):
    """Class requests: bmRequestType and bRequest; PSTN section 6.3."""

    SET_LINE_CODING = (0x21, 0x20)
    GET_LINE_CODING = (0xA1, 0x21)
    SET_CONTROL_LINE_STATE = (0x21, 0x22)


class SerialState(enum.IntFlag):
    """Bits of the notification SERIAL_STATE; PSTN section 6.5.4."""

    DCD = 1 << 0
    DSR = 1 << 1


@dataclass(frozen=True, slots=True)
class LineCoding:
    """How characters are framed; PSTN section 6.3.11.

    Attributes:
        baud: Bits per second.
        stop: 0 for 1 stop bit, 1 for 1.5, 2 for 2.
        parity: 0 for none, then odd, even, mark, space.
        data_bits: 5, 6, 7, 8 or 16.
    """

    baud: int = 9600
    stop: int = 0
    parity: int = 0
    data_bits: int = 8

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """Read it; None if it is none, or frames that do not exist."""
        if len(data) != _LINE_CODING.size:
            return None
        baud, stop, parity, data_bits = _LINE_CODING.unpack(data)
        if stop > 2 or parity > 4 or data_bits not in (5, 6, 7, 8, 16):
            return None
        return cls(baud, stop, parity, data_bits)

    def encode(self) -> bytes:
        """Return its bytes."""
        return _LINE_CODING.pack(self.baud, self.stop, self.parity, self.data_bits)


_LINE_CODING: Final = struct.Struct("<IBBB")


class SerialAdapter:
    """A serial adapter that echoes.

    Args:
        serial: Its serial number.
    """

    def __init__(self, serial: str) -> None:
        self.description = Description(
            ids=IDS,
            manufacturer="kubectl-vmredir",
            product="Virtual Serial Adapter",
            serial=serial,
            speed=Speed.FULL,
            configuration=_CONFIGURATION,
            device_class=UsbClass(0x02, 0, 0),  # communications; CDC section 4.1
        )
        self._line_coding = LineCoding()
        self._echo = bytearray()
        self._state = SerialState(0)
        self._told = SerialState(0)
        """The state that the host knows."""

    @property
    def line_coding(self) -> LineCoding:
        """The framing that the host has chosen. It changes nothing: there is no wire."""
        return self._line_coding

    @property
    def open(self) -> bool:
        """Whether a program of the host has the port open: it keeps DTR up."""
        return SerialState.DCD in self._state

    def acquire(self) -> str | None:
        """Nobody else can have it."""
        return None

    def release(self) -> None:
        """Nothing to do."""

    def reset(self, bus: Bus) -> None:
        """Begin anew, on this bus."""
        self._line_coding = LineCoding()
        self._echo.clear()
        self._state = self._told = SerialState(0)

    def control(self, setup: Setup, data: bytes) -> Answer:
        """Answer the class requests of the communications interface."""
        try:
            request = Request(setup.kind)
        except ValueError:
            return STALL
        if setup.index != _CONTROL:
            return STALL
        match request:
            case Request.SET_LINE_CODING if not setup.value:
                if (coding := LineCoding.decode(data)) is None:
                    return STALL
                self._line_coding = coding
                return ACK
            case Request.GET_LINE_CODING if not setup.value:
                return Answer(Handshake.ACK, self._line_coding.encode())
            case Request.SET_CONTROL_LINE_STATE if not setup.length:
                self._set_dtr(up=bool(setup.value & _DTR))
                return ACK
            case _:
                return STALL

    def may_clear_halt(self) -> bool:
        """Nothing halts for good."""
        return True

    def data_out(self, endpoint: int, data: bytes) -> Answer:
        """Take characters on the only OUT endpoint, if there is room."""
        if len(self._echo) >= ECHO_BYTES:
            return NAK
        self._echo += data
        return ACK

    def data_in(self, endpoint: int, length: int) -> Answer:
        """Give characters, or news of the lines, if there are any."""
        if endpoint == INTERRUPT_IN:
            return self._notify()
        if not self._echo:
            return NAK
        data = bytes(self._echo[:length])
        del self._echo[:length]
        return Answer(Handshake.ACK, data)

    def _set_dtr(self, *, up: bool) -> None:
        self._state = SerialState.DCD | SerialState.DSR if up else SerialState(0)
        if not up:
            # Nobody is there to read it, and who opens the port next did not send it.
            self._echo.clear()

    def _notify(self) -> Answer:
        if self._told == self._state:
            return NAK
        self._told = self._state
        return Answer(
            Handshake.ACK, _SERIAL_STATE.pack(*_NOTIFICATION, 0, _CONTROL, 2, self._state)
        )


_FUNCTIONAL: Final = b"".join(
    struct.pack("BB", 2 + len(body), DescriptorType.CS_INTERFACE) + body
    for body in (
        b"\x00\x20\x01",  # header: bcdCDC 1.20; CDC section 5.2.3.1
        bytes((0x01, 0, _DATA)),  # call management: none; PSTN section 5.3.1
        b"\x02\x02",  # abstract control: line coding and line state; PSTN section 5.3.2
        bytes((0x06, _CONTROL, _DATA)),  # union of the two interfaces; CDC section 5.2.3.2
    )
)

_CONFIGURATION: Final = Configuration(
    (
        Interface(
            _CONTROL,
            UsbClass(0x02, 0x02, 0x00),  # communications, abstract control, no AT commands
            (Endpoint(INTERRUPT_IN, TransferType.INTERRUPT, _NOTIFICATION_PACKET, interval=16),),
            extra=_FUNCTIONAL,
        ),
        Interface(
            _DATA,
            UsbClass(0x0A, 0x00, 0x00),  # CDC data
            (
                Endpoint(BULK_IN, TransferType.BULK, _PACKET),
                Endpoint(BULK_OUT, TransferType.BULK, _PACKET),
            ),
        ),
    )
)
