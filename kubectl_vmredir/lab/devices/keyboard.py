"""A USB keyboard: HID with the boot protocol, typed on by a script.

Sources: "Device Class Definition for HID, version 1.11" (sections 6 and 7, appendix B) and
"HID Usage Tables", page 7.
"""

from __future__ import annotations

import enum
import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError
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
    from kubectl_vmredir.lab.devices.function import Bus, Timer

IDS: Final = VendorProduct(0x1209, 0x0002)
"""pid.codes' ids for private tests: no driver has a quirk for them."""

INTERRUPT_IN: Final = 0x81
REPORT_BYTES: Final = 8
QUEUE_REPORTS: Final = 512
"""So many reports wait for a host that does not poll; a script that types more is refused."""

_IDLE_UNIT_S: Final = 0.004
_DEFAULT_IDLE: Final = 125
"""500 ms, which section 7.2.4 recommends for keyboards."""

_INPUT_REPORT: Final = 1
_OUTPUT_REPORT: Final = 2
_GET_DESCRIPTOR: Final = (0x81, 0x06)

REPORT_DESCRIPTOR: Final = bytes.fromhex(
    "0501 0906 a101"  # usage page generic desktop, usage keyboard, collection application
    "0507 19e0 29e7 1500 2501 7501 9508 8102"  # 8 modifiers, one bit each
    "9501 7508 8101"  # one reserved byte
    "9505 7501 0508 1901 2905 9102"  # 5 LEDs, one bit each
    "9501 7503 9101"  # 3 bits of padding
    "9506 7508 1500 2565 0507 1900 2965 8100"  # 6 keys that are down
    "c0"
)
"""Appendix B.1: the same report in the boot and in the report protocol."""


class Request(enum.Enum):
    """Class requests: bmRequestType and bRequest; section 7.2."""

    GET_REPORT = (0xA1, 0x01)
    GET_IDLE = (0xA1, 0x02)
    GET_PROTOCOL = (0xA1, 0x03)
    SET_REPORT = (0x21, 0x09)
    SET_IDLE = (0x21, 0x0A)
    SET_PROTOCOL = (0x21, 0x0B)


class Protocol(enum.IntEnum):
    """What SET_PROTOCOL chooses; section 7.2.6."""

    BOOT = 0
    REPORT = 1


class Led(enum.IntFlag):
    """Bits of the output report."""

    NUM_LOCK = 1 << 0
    CAPS_LOCK = 1 << 1
    SCROLL_LOCK = 1 << 2
    COMPOSE = 1 << 3
    KANA = 1 << 4


LEFT_SHIFT: Final = 1 << 1
"""Modifier bit of a report."""

ENTER: Final = 0x28
"""Usage of the Enter key."""


def _us_layout() -> dict[str, tuple[int, int]]:
    """Return modifiers and usage for each character of a keyboard for the United States."""
    plain = "abcdefghijklmnopqrstuvwxyz1234567890\n\x1b\b\t -=[]\\#;'`,./"
    shifted = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ!@#$%^&*()\0\0\0\0\0_+{}|\0:"~<>?'
    first_usage = 0x04
    keys = {char: (LEFT_SHIFT, first_usage + place) for place, char in enumerate(shifted)}
    del keys["\0"]
    # "#" is a key of its own (0x32) on other keyboards only: here it is shift and 3.
    keys |= {char: (0, first_usage + place) for place, char in enumerate(plain) if char not in "#"}
    return keys


_US_LAYOUT: Final = _us_layout()


class Keyboard:
    """A boot keyboard for the United States, with 6 keys at a time.

    Args:
        serial: Its serial number.
    """

    def __init__(self, serial: str) -> None:
        self.description = Description(
            ids=IDS,
            manufacturer="kubectl-vmredir",
            product="Virtual Keyboard",
            serial=serial,
            speed=Speed.FULL,
            configuration=_CONFIGURATION,
        )
        self._bus: Bus | None = None
        self._queue: deque[bytes] = deque()
        self._state = bytes(REPORT_BYTES)
        self._leds = Led(0)
        self._protocol = Protocol.REPORT
        self._idle = _DEFAULT_IDLE
        self._idle_timer: Timer | None = None

    @property
    def leds(self) -> Led:
        """The lamps that the host has lit."""
        return self._leds

    @property
    def protocol(self) -> Protocol:
        """The protocol that the host has chosen."""
        return self._protocol

    def press(self, *usages: int, modifiers: int = 0) -> None:
        """Press these keys at once and let go of them.

        Raises:
            LabError: If too much waits already for the host to poll.
        """
        assert len(usages) <= REPORT_BYTES - 2, "a boot keyboard has 6 keys at a time"
        if len(self._queue) + 2 > QUEUE_REPORTS:
            raise LabError("nobody reads what is typed on the virtual keyboard")
        self._queue.append(bytes((modifiers, 0, *usages)).ljust(REPORT_BYTES, b"\0"))
        self._queue.append(bytes(REPORT_BYTES))
        if self._bus is not None:
            self._bus.wake()

    def type_text(self, text: str) -> None:
        """Type a text, key by key.

        Raises:
            LabError: If there is no key for it, or too much waits for the host to poll.
        """
        for char in text:
            if char not in _US_LAYOUT:
                raise LabError(f"the virtual keyboard has no key for {char!r}")
            modifiers, usage = _US_LAYOUT[char]
            self.press(usage, modifiers=modifiers)

    def acquire(self) -> str | None:
        """Nobody else can have it."""
        return None

    def release(self) -> None:
        """Stop the idle timer."""
        self._bus = None
        self._restart_idle()

    def reset(self, bus: Bus) -> None:
        """Begin anew, on this bus."""
        self._bus = bus
        self._queue.clear()
        self._state = bytes(REPORT_BYTES)
        self._leds = Led(0)
        self._protocol = Protocol.REPORT
        self._idle = _DEFAULT_IDLE
        self._restart_idle()

    def control(self, setup: Setup, data: bytes) -> Answer:
        """Answer the requests of HID section 7; there is only interface 0."""
        if setup.index:
            return STALL
        if setup.kind == _GET_DESCRIPTOR:
            return self._descriptor(setup.value)
        try:
            request = Request(setup.kind)
        except ValueError:
            return STALL
        kind, report_id = setup.value >> 8, setup.value & 0xFF
        match request:
            case Request.GET_REPORT if kind == _INPUT_REPORT and not report_id:
                return Answer(Handshake.ACK, self._state)
            case Request.GET_REPORT if kind == _OUTPUT_REPORT and not report_id:
                return Answer(Handshake.ACK, bytes((self._leds,)))
            case Request.SET_REPORT if (kind, report_id, len(data)) == (_OUTPUT_REPORT, 0, 1):
                self._leds = Led(data[0] & 0x1F)
                return ACK
            case Request.GET_IDLE if setup.value == 0:
                return Answer(Handshake.ACK, bytes((self._idle,)))
            case Request.SET_IDLE if not report_id:
                self._idle = setup.value >> 8
                self._restart_idle()
                return ACK
            case Request.GET_PROTOCOL if setup.value == 0:
                return Answer(Handshake.ACK, bytes((self._protocol,)))
            case Request.SET_PROTOCOL if setup.value in (Protocol.BOOT, Protocol.REPORT):
                self._protocol = Protocol(setup.value)
                return ACK
            case _:
                return STALL

    def may_clear_halt(self) -> bool:
        """Nothing halts for good."""
        return True

    def data_out(self, endpoint: int, data: bytes) -> Answer:
        """There is no OUT endpoint."""
        return STALL

    def data_in(self, endpoint: int, length: int) -> Answer:
        """Give the next report, if there is one."""
        if not self._queue:
            return NAK
        self._state = self._queue.popleft()
        self._restart_idle()
        return Answer(Handshake.ACK, self._state)

    def _descriptor(self, value: int) -> Answer:
        match value >> 8, value & 0xFF:
            case DescriptorType.HID, 0:
                return Answer(Handshake.ACK, _HID_DESCRIPTOR)
            case DescriptorType.HID_REPORT, 0:
                return Answer(Handshake.ACK, REPORT_DESCRIPTOR)
            case _:
                return STALL

    def _restart_idle(self) -> None:
        """Report again, unchanged, when the idle time is over; 0 is never (section 7.2.4)."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._bus is not None and self._idle:
            clock = self._bus.clock
            self._idle_timer = clock.call_at(
                clock.time() + self._idle * _IDLE_UNIT_S, self._report_again
            )

    def _report_again(self) -> None:
        self._idle_timer = None
        if self._bus is not None and not self._queue:
            self._queue.append(self._state)
            self._bus.wake()


_HID_DESCRIPTOR: Final = struct.pack(
    "<BBHBBBH",
    9,
    DescriptorType.HID,
    0x0111,  # bcdHID
    0,  # no country
    1,
    DescriptorType.HID_REPORT,
    len(REPORT_DESCRIPTOR),
)

_CONFIGURATION: Final = Configuration(
    (
        Interface(
            0,
            UsbClass(0x03, 0x01, 0x01),  # HID, boot, keyboard
            (Endpoint(INTERRUPT_IN, TransferType.INTERRUPT, REPORT_BYTES, interval=10),),
            extra=_HID_DESCRIPTOR,
        ),
    ),
    remote_wakeup=True,
)
