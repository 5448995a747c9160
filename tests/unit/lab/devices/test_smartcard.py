"""The smartcard reader as a CCID driver uses it; messages typed from CCID 1.1 chapter 6."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.lab.devices.card import AID, Card
from kubectl_vmredir.lab.devices.ccid import Slot
from kubectl_vmredir.lab.devices.smartcard import (
    BULK_IN,
    BULK_OUT,
    INTERRUPT_IN,
    SmartcardReader,
)
from kubectl_vmredir.protocol.constants import Status
from kubectl_vmredir.protocol.control import (
    CancelDataPacket,
    InterruptReceivingStatus,
    Reset,
    StartInterruptReceiving,
)
from kubectl_vmredir.protocol.data import BulkPacket, InterruptPacket
from tests.support.usb_guest import Guest

OK = Status.SUCCESS
STALL = (Status.STALL, b"")

POWER_ON = "62 00000000 00 {seq} 00 0000"
POWER_OFF = "63 00000000 00 {seq} 000000"
SLOT_STATUS = "65 00000000 00 {seq} 000000"
GET_PARAMETERS = "6c 00000000 00 {seq} 000000"
RESET_PARAMETERS = "6d 00000000 00 {seq} 000000"
SET_PARAMETERS = "61 07000000 00 {seq} 01 0000 11100045002000"
READ = "6f 05000000 00 {seq} 00 0000 00b0000004"
ABORT = "72 00000000 00 {seq} 000000"

ATR = "3b 87 01 766d7265646972 f5"
T1_PARAMETERS = "11 10 00 4d 00 20 00"


class Driver:
    """A reader and the driver of its guest, which always has one read under way."""

    def __init__(self) -> None:
        self.reader = SmartcardReader("CARD001", b"secret")
        self.guest = Guest(self.reader)
        self.guest.connect()
        self.sequence = 0

    def ask(self, message: str) -> str:
        """Send a message with a new sequence number; return the answer without it."""
        self.sequence += 1
        self.send(message, self.sequence)
        answer = self.receive()
        assert answer[6] == self.sequence
        return (answer[:6] + answer[7:]).hex(" ")

    def send(self, message: str, sequence: int = 0) -> None:
        writing = self.guest.bulk_out(
            BULK_OUT, bytes.fromhex(message.format(seq=f"{sequence:02x}"))
        )
        assert [(packet_id, packet.status) for packet_id, packet in self.bulk()] == [(writing, OK)]

    def receive(self) -> bytes:
        """Return the next answer, which must be there."""
        reading = self.guest.bulk_in(BULK_IN, 300)
        [(packet_id, packet)] = self.bulk()
        assert (packet_id, packet.status) == (reading, OK)
        return packet.data

    def receives_nothing(self) -> bool:
        reading = self.guest.bulk_in(BULK_IN, 300)
        nothing = not self.guest.pull()
        self.guest.ask(CancelDataPacket(), reading)
        return nothing

    def request_abort(self, sequence: int) -> tuple[Status, bytes]:
        return self.guest.control(0x21, 0x01, sequence << 8, 0, 0)

    def bulk(self) -> list[tuple[int, BulkPacket]]:
        """Return the answers to bulk transfers that came since the last look."""
        received = self.guest.pull()
        return [
            (packet_id, packet) for packet_id, packet in received if isinstance(packet, BulkPacket)
        ]

    def notifications(self) -> list[bytes]:
        """Return what came on the interrupt endpoint since the last look."""
        received = [packet for _, packet in self.guest.pull()]
        return [packet.data for packet in received if isinstance(packet, InterruptPacket)]


@pytest.fixture
def driver() -> Driver:
    return Driver()


def answer(kind: str, status: str, error: str = "00", detail: str = "00", data: str = "") -> str:
    """Return an answer as :meth:`Driver.ask` does."""
    body = bytes.fromhex(data)
    head = bytes.fromhex(f"{kind} {len(body).to_bytes(4, 'little').hex()} 00")
    return (head + bytes.fromhex(status + error + detail) + body).hex(" ")


def test_card_is_powered_and_read(driver: Driver) -> None:
    select = f"6f 0d000000 00 {{seq}} 00 0000 00a4040008 {AID.hex()}"

    assert driver.ask(SLOT_STATUS) == answer("81", "01")
    assert driver.ask(POWER_ON) == answer("80", "00", data=ATR)
    assert driver.ask(SLOT_STATUS) == answer("81", "00")
    assert driver.ask(select) == answer("80", "00", data="9000")
    assert driver.ask(READ) == answer("80", "00", data=b"secr".hex() + "9000")
    assert driver.ask(POWER_OFF) == answer("81", "01")


@pytest.mark.parametrize("request_", [GET_PARAMETERS, RESET_PARAMETERS, SET_PARAMETERS])
def test_parameters_are_those_of_the_answer_to_reset(driver: Driver, request_: str) -> None:
    driver.ask(POWER_ON)

    assert driver.ask(request_) == answer("82", "00", detail="01", data=T1_PARAMETERS)


FAILURES = [
    pytest.param(READ, answer("80", "41", "fe"), id="read without power"),
    pytest.param(GET_PARAMETERS, answer("82", "41", "fe"), id="parameters without power"),
    pytest.param("61 05000000 00 {seq} 00 0000 1100000a00", answer("82", "41", "07"), id="T=0"),
    pytest.param("62 00000000 00 {seq} 04 0000", answer("80", "41", "07"), id="unknown voltage"),
    pytest.param("6f 05000000 00 {seq} 00 0000 00b0", answer("80", "41", "01"), id="half a block"),
    pytest.param("6b 00000000 00 {seq} 000000", answer("83", "41", "00"), id="escape"),
    pytest.param("69 00000000 00 {seq} 000000", answer("80", "41", "00"), id="PIN entry"),
    pytest.param("73 00000000 00 {seq} 000000", answer("84", "41", "00"), id="data rate"),
    pytest.param("71 00000000 00 {seq} 000000", answer("81", "41", "00"), id="mechanics"),
    pytest.param("99 00000000 00 {seq} 000000", answer("81", "41", "00"), id="no such message"),
]


@pytest.mark.parametrize(("message", "expected"), FAILURES)
def test_what_cannot_be_done_fails(driver: Driver, message: str, expected: str) -> None:
    assert driver.ask(message) == expected


def test_second_slot_is_not_there(driver: Driver) -> None:
    assert driver.ask("65 00000000 01 {seq} 000000") == "81 00 00 00 00 01 42 05 00"


def test_scrap_is_not_answered_and_does_no_harm(driver: Driver) -> None:
    driver.send("65 00000000 00")

    assert driver.receives_nothing()
    assert driver.ask(SLOT_STATUS) == answer("81", "01")


def test_driver_that_reads_nothing_is_made_to_wait() -> None:
    driver = Driver()
    for sequence in range(8):
        driver.send(SLOT_STATUS, sequence)

    waiting = driver.guest.bulk_out(BULK_OUT, bytes.fromhex(SLOT_STATUS.format(seq="08")))
    assert driver.bulk() == []

    reading = driver.guest.bulk_in(BULK_IN, 300)
    assert [packet_id for packet_id, _ in driver.bulk()] == [reading, waiting]
    assert [driver.receive()[6] for _ in range(8)] == list(range(1, 9))


# -- abort: CCID 1.1 section 5.3.1 ------------------------------------------------------------


def test_abort_fails_all_commands_until_its_message_comes(driver: Driver) -> None:
    assert driver.request_abort(0x20) == (OK, b"")

    assert driver.ask(SLOT_STATUS) == answer("81", "41", "ff")
    assert driver.ask(POWER_ON) == answer("80", "41", "ff")
    driver.send(ABORT, 0x20)
    assert driver.receive() == bytes.fromhex("81 00000000 00 20 01 00 00")
    assert driver.ask(SLOT_STATUS) == answer("81", "01")


def test_abort_message_of_another_command_does_not_end_it(driver: Driver) -> None:
    driver.request_abort(0x20)

    driver.send(ABORT, 0x1F)

    assert driver.receives_nothing()
    assert driver.ask(SLOT_STATUS) == answer("81", "41", "ff")


def test_abort_message_before_the_request_is_answered_after_it(driver: Driver) -> None:
    driver.send(ABORT, 0x20)
    assert driver.receives_nothing()

    assert driver.request_abort(0x20) == (OK, b"")

    assert driver.receive() == bytes.fromhex("81 00000000 00 20 01 00 00")
    assert driver.ask(SLOT_STATUS) == answer("81", "01")


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param((0x21, 0x01, 0x2001, 0, 0), id="abort in a second slot"),
        pytest.param((0xA1, 0x02, 0, 0, 4), id="clock frequencies"),
        pytest.param((0xA1, 0x03, 0, 0, 4), id="data rates"),
    ],
)
def test_unknown_request_stalls(driver: Driver, request_: tuple[int, int, int, int, int]) -> None:
    assert driver.guest.control(*request_) == STALL


# -- the card comes and goes ------------------------------------------------------------------


def test_card_that_is_there_is_news_once(driver: Driver) -> None:
    assert driver.guest.ask(StartInterruptReceiving(INTERRUPT_IN)) == [
        InterruptReceivingStatus(OK, INTERRUPT_IN),
        InterruptPacket(INTERRUPT_IN, OK, 2, bytes.fromhex("50 03")),
    ]
    assert driver.notifications() == []


def test_card_that_is_taken_out_and_put_in_again_is_noticed(driver: Driver) -> None:
    driver.guest.ask(StartInterruptReceiving(INTERRUPT_IN))
    driver.ask(POWER_ON)

    driver.reader.remove_card()
    assert driver.notifications() == [bytes.fromhex("50 02")]
    assert not driver.reader.present
    assert driver.ask(READ) == answer("80", "42", "fe")
    assert driver.ask(POWER_ON) == answer("80", "42", "fe")
    assert driver.ask(POWER_OFF) == answer("81", "02")

    driver.reader.insert_card()
    assert driver.notifications() == [bytes.fromhex("50 03")]
    assert driver.ask(SLOT_STATUS) == answer("81", "01")
    assert driver.ask(POWER_ON) == answer("80", "00", data=ATR)


def test_card_may_come_while_nobody_has_the_reader() -> None:
    reader = SmartcardReader("CARD001")
    reader.remove_card()

    reader.insert_card()

    assert reader.present


def test_reset_takes_the_power_from_the_card_and_drops_answers(driver: Driver) -> None:
    driver.ask(POWER_ON)
    driver.send(SLOT_STATUS)

    driver.guest.ask(Reset())

    assert driver.receives_nothing()
    assert driver.ask(READ) == answer("80", "41", "fe")


def test_card_says_which_reader_it_is_in() -> None:
    driver = Driver()
    driver.reader = SmartcardReader("CARD007")
    driver.guest = Guest(driver.reader)
    driver.guest.connect()
    driver.ask(POWER_ON)
    driver.ask(f"6f 0d000000 00 {{seq}} 00 0000 00a4040008 {AID.hex()}")

    text = driver.ask("6f 05000000 00 {seq} 00 0000 00b0000000")

    assert b"CARD007" in bytes.fromhex(text)


@given(messages=st.lists(st.binary(max_size=300), max_size=12))
def test_anything_is_answered_or_made_to_wait(messages: list[bytes]) -> None:
    slot = Slot(Card(b"content"))

    taken = [slot.take(message) for message in messages]

    answers = list(iter(slot.next_answer, None))
    expected = sum(
        took and len(message) >= 10 for took, message in zip(taken, messages, strict=True)
    )
    assert len(answers) <= expected
    assert all(answer[0] in range(0x80, 0x85) for answer in answers)
