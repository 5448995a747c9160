import pytest

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.devices.keyboard import (
    ENTER,
    INTERRUPT_IN,
    LEFT_SHIFT,
    QUEUE_REPORTS,
    REPORT_DESCRIPTOR,
    Keyboard,
    Led,
    Protocol,
)
from kubectl_vmredir.protocol.constants import Status
from kubectl_vmredir.protocol.control import (
    InterruptReceivingStatus,
    Reset,
    StartInterruptReceiving,
    StopInterruptReceiving,
)
from kubectl_vmredir.protocol.data import InterruptPacket
from tests.support.usb_guest import Guest

OK = Status.SUCCESS
STALL = (Status.STALL, b"")
NOTHING_DOWN = "00" * 8


class Desk:
    """A keyboard whose guest polls, without idle reports, as Linux asks for."""

    def __init__(self) -> None:
        self.keyboard = Keyboard("KEYS001")
        self.guest = Guest(self.keyboard)
        self.guest.connect()
        assert self.guest.control(0x21, 0x0A, 0, 0, 0) == (OK, b"")
        assert self.guest.ask(StartInterruptReceiving(INTERRUPT_IN)) == [
            InterruptReceivingStatus(OK, INTERRUPT_IN)
        ]

    def reports(self) -> list[str]:
        packets = [packet for _, packet in self.guest.pull()]
        assert all(isinstance(packet, InterruptPacket) for packet in packets)
        return [packet.data.hex() for packet in packets if isinstance(packet, InterruptPacket)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_key_goes_down_and_up(desk: Desk) -> None:
    desk.keyboard.press(ENTER)

    assert desk.guest.pull() == [
        (0, InterruptPacket(INTERRUPT_IN, OK, 8, bytes.fromhex("00 00 28 00 00 00 00 00"))),
        (1, InterruptPacket(INTERRUPT_IN, OK, 8, bytes(8))),
    ]


def test_keys_at_once_with_modifiers(desk: Desk) -> None:
    desk.keyboard.press(0x04, 0x05, modifiers=LEFT_SHIFT)

    assert desk.reports() == ["0200040500000000", NOTHING_DOWN]


# Usages from page 7 of the usage tables.
CHARACTERS = [
    ("a", "00 00 04"),
    ("z", "00 00 1d"),
    ("Z", "02 00 1d"),
    ("1", "00 00 1e"),
    ("0", "00 00 27"),
    ("!", "02 00 1e"),
    (")", "02 00 27"),
    ("#", "02 00 20"),
    ("\n", "00 00 28"),
    ("\x1b", "00 00 29"),
    ("\b", "00 00 2a"),
    ("\t", "00 00 2b"),
    (" ", "00 00 2c"),
    ("-", "00 00 2d"),
    ("_", "02 00 2d"),
    ("}", "02 00 30"),
    ("\\", "00 00 31"),
    ("|", "02 00 31"),
    (":", "02 00 33"),
    ('"', "02 00 34"),
    ("`", "00 00 35"),
    ("~", "02 00 35"),
    (",", "00 00 36"),
    ("?", "02 00 38"),
]


@pytest.mark.parametrize(("char", "start"), CHARACTERS)
def test_character_is_the_key_of_a_us_keyboard(desk: Desk, char: str, start: str) -> None:
    desk.keyboard.type_text(char)

    assert desk.reports() == [bytes.fromhex(start).hex().ljust(16, "0"), NOTHING_DOWN]


def test_text_keeps_its_order(desk: Desk) -> None:
    desk.keyboard.type_text("ab")

    down = [report[4:6] for report in desk.reports()]
    assert down == ["04", "00", "05", "00"]


def test_character_without_a_key_is_refused(desk: Desk) -> None:
    with pytest.raises(LabError, match="no key for 'ß'"):
        desk.keyboard.type_text("ß")


def test_nothing_is_sent_while_nobody_polls() -> None:
    keyboard = Keyboard("KEYS001")
    guest = Guest(keyboard)
    guest.connect()

    keyboard.press(ENTER)
    assert guest.pull() == []

    guest.send(StartInterruptReceiving(INTERRUPT_IN))
    started, *reports = [packet for _, packet in guest.pull()]
    assert started == InterruptReceivingStatus(OK, INTERRUPT_IN)
    assert len(reports) == 2


def test_what_waits_is_bounded() -> None:
    keyboard = Keyboard("KEYS001")

    with pytest.raises(LabError, match="nobody reads"):
        keyboard.type_text("x" * QUEUE_REPORTS)


def test_stopped_keyboard_keeps_the_keys_for_later(desk: Desk) -> None:
    assert desk.guest.ask(StopInterruptReceiving(INTERRUPT_IN)) == [
        InterruptReceivingStatus(OK, INTERRUPT_IN)
    ]
    desk.keyboard.press(ENTER)
    assert desk.guest.pull() == []

    desk.guest.send(StartInterruptReceiving(INTERRUPT_IN))
    assert [packet_id for packet_id, _ in desk.guest.pull()] == [0, 0, 1]


def test_reset_breaks_the_polling_and_forgets_keys_leds_and_protocol(desk: Desk) -> None:
    desk.guest.control(0x21, 0x09, 0x0200, 0, 1, b"\x02")
    desk.guest.control(0x21, 0x0B, 0, 0, 0)

    assert desk.guest.ask(Reset()) == [InterruptReceivingStatus(Status.STALL, INTERRUPT_IN)]

    assert desk.keyboard.leds == Led(0)
    assert desk.keyboard.protocol is Protocol.REPORT
    desk.keyboard.press(ENTER)
    assert desk.guest.pull() == []


def test_leds_are_set_and_read_back(desk: Desk) -> None:
    assert desk.guest.control(0x21, 0x09, 0x0200, 0, 1, b"\x03") == (OK, b"")

    assert desk.keyboard.leds == Led.NUM_LOCK | Led.CAPS_LOCK
    assert desk.guest.control(0xA1, 0x01, 0x0200, 0, 1) == (OK, b"\x03")


def test_protocol_is_chosen(desk: Desk) -> None:
    assert desk.guest.control(0xA1, 0x03, 0, 0, 1) == (OK, b"\x01")
    assert desk.guest.control(0x21, 0x0B, 0, 0, 0) == (OK, b"")

    assert desk.keyboard.protocol is Protocol.BOOT
    assert desk.guest.control(0xA1, 0x03, 0, 0, 1) == (OK, b"\0")


def test_report_is_also_had_by_request(desk: Desk) -> None:
    desk.guest.ask(StopInterruptReceiving(INTERRUPT_IN))

    assert desk.guest.control(0xA1, 0x01, 0x0100, 0, 8) == (OK, bytes(8))


def test_report_descriptor_is_the_one_of_the_boot_protocol(desk: Desk) -> None:
    assert desk.guest.control(0x81, 6, 0x2200, 0, 255) == (OK, REPORT_DESCRIPTOR)
    assert desk.guest.control(0x81, 6, 0x2100, 0, 9) == (
        OK,
        bytes.fromhex("09 21 1101 00 01 22 3f00"),
    )


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param((0x81, 6, 0x2300, 0, 9), id="physical descriptor"),
        pytest.param((0xA1, 0x01, 0x0300, 0, 8), id="feature report"),
        pytest.param((0xA1, 0x01, 0x0101, 0, 8), id="report with an id"),
        pytest.param((0x21, 0x09, 0x0200, 0, 0), id="LEDs without data"),
        pytest.param((0x21, 0x0B, 2, 0, 0), id="third protocol"),
        pytest.param((0x21, 0x0A, 0x0001, 0, 0), id="idle of a report id"),
        pytest.param((0xA1, 0x07, 0, 0, 1), id="unknown request"),
    ],
)
def test_unknown_request_stalls(desk: Desk, request_: tuple[int, int, int, int, int]) -> None:
    assert desk.guest.control(*request_) == STALL


def test_remote_wakeup_can_be_enabled(desk: Desk) -> None:
    assert desk.guest.control(0x00, 3, 1, 0, 0) == (OK, b"")
    assert desk.guest.control(0x80, 0, 0, 0, 2) == (OK, b"\x02\0")
    assert desk.guest.control(0x00, 1, 1, 0, 0) == (OK, b"")
    assert desk.guest.control(0x80, 0, 0, 0, 2) == (OK, b"\0\0")


def test_idle_keyboard_reports_again_at_the_rate_that_was_set(desk: Desk) -> None:
    assert desk.guest.control(0x21, 0x0A, 25 << 8, 0, 0) == (OK, b"")  # 25 times 4 ms
    assert desk.guest.control(0xA1, 0x02, 0, 0, 1) == (OK, b"\x19")

    desk.guest.clock.advance(0.099)
    assert desk.reports() == []
    desk.guest.clock.advance(0.002)
    assert desk.reports() == [NOTHING_DOWN]
    desk.guest.clock.advance(0.1)
    assert desk.reports() == [NOTHING_DOWN]


def test_key_starts_the_idle_time_anew(desk: Desk) -> None:
    desk.guest.control(0x21, 0x0A, 25 << 8, 0, 0)
    desk.guest.clock.advance(0.09)
    desk.keyboard.press(ENTER)
    desk.guest.pull()

    desk.guest.clock.advance(0.09)
    assert desk.reports() == []


def test_idle_time_of_zero_is_for_ever(desk: Desk) -> None:
    desk.guest.clock.advance(3600)

    assert desk.reports() == []


def test_halt_of_the_endpoint_does_not_cost_a_key(desk: Desk) -> None:
    assert desk.guest.control(0x02, 3, 0, INTERRUPT_IN, 0) == (OK, b"")

    desk.keyboard.press(ENTER)

    assert desk.reports() == ["0000280000000000", NOTHING_DOWN]


def test_released_keyboard_reports_no_more() -> None:
    keyboard = Keyboard("KEYS001")
    guest = Guest(keyboard)
    guest.connect()
    guest.ask(StartInterruptReceiving(INTERRUPT_IN))

    keyboard.release()
    guest.clock.advance(3600)

    assert guest.pull() == []
