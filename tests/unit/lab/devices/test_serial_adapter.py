"""The serial adapter as a driver of communication devices uses it."""

import pytest

from kubectl_vmredir.lab.devices.serial_adapter import (
    BULK_IN,
    BULK_OUT,
    ECHO_BYTES,
    INTERRUPT_IN,
    LineCoding,
    SerialAdapter,
)
from kubectl_vmredir.model import UsbClass
from kubectl_vmredir.protocol.constants import INPUT, Status, UsbSpeed
from kubectl_vmredir.protocol.control import (
    AltSettingStatus,
    InterruptReceivingStatus,
    Reset,
    SetAltSetting,
    StartInterruptReceiving,
)
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket, InterruptPacket
from kubectl_vmredir.protocol.description import DeviceConnect, EpInfo, InterfaceInfo
from tests.support.usb_guest import Guest

OK = Status.SUCCESS
STALL = (Status.STALL, b"")
# PSTN 1.2 section 6.5.4: SERIAL_STATE of interface 0; DCD and DSR are the low bits.
LINES_UP = bytes.fromhex("a1 20 0000 0000 0200 0300")
LINES_DOWN = bytes.fromhex("a1 20 0000 0000 0200 0000")


class Port:
    """An adapter and the driver of its guest."""

    def __init__(self) -> None:
        self.adapter = SerialAdapter("SERIAL001")
        self.guest = Guest(self.adapter)
        self.told = self.guest.connect()

    def set_lines(self, bits: int) -> None:
        assert self.guest.control(0x21, 0x22, bits, 0, 0) == (OK, b"")

    def set_lines_and_listen(self, bits: int) -> bytes:
        """Set the lines while the guest polls; return what it is told of them."""
        packet_id = self.guest.codec.next_id()
        setup = ControlPacket(0, 0x22, 0x21, OK, bits, 0, 0)
        self.guest.send(setup, packet_id)
        (answer_id, answer), (_, news) = self.guest.pull()
        assert (answer_id, answer) == (packet_id, setup)
        assert isinstance(news, InterruptPacket)
        return news.data

    def bulk(self) -> list[tuple[int, Status, bytes]]:
        """Return the answers to bulk transfers that came since the last look."""
        return [
            (packet_id, packet.status, packet.data)
            for packet_id, packet in self.guest.pull()
            if isinstance(packet, BulkPacket)
        ]


@pytest.fixture
def port() -> Port:
    return Port()


def test_adapter_is_one_device_with_two_interfaces(port: Port) -> None:
    interfaces, endpoints, connect = port.told

    assert isinstance(interfaces, InterfaceInfo)
    assert [(each.number, each.usb_class) for each in interfaces.interfaces] == [
        (0, UsbClass(2, 2, 0)),
        (1, UsbClass(10, 0, 0)),
    ]
    assert isinstance(endpoints, EpInfo)
    owners = {each.interface for each in endpoints.endpoints if each.max_packet_size}
    assert owners == {0, 1}
    assert connect == DeviceConnect(UsbSpeed.FULL, 2, 0, 0, 0x1209, 0x0003, 0x0100)


def test_what_is_sent_comes_back(port: Port) -> None:
    reading = port.guest.bulk_in(BULK_IN, 64)
    assert port.bulk() == []

    writing = port.guest.bulk_out(BULK_OUT, b"hello")

    assert port.bulk() == [(writing, OK, b""), (reading, OK, b"hello")]


def test_many_reads_wait_and_get_the_characters_in_order(port: Port) -> None:
    reading = [port.guest.bulk_in(BULK_IN, 4) for _ in range(3)]

    port.guest.bulk_out(BULK_OUT, b"0123456789")

    assert port.bulk()[1:] == [
        (reading[0], OK, b"0123"),
        (reading[1], OK, b"4567"),
        (reading[2], OK, b"89"),
    ]


def test_what_nobody_reads_is_bounded_and_none_of_it_is_lost(port: Port) -> None:
    first = port.guest.bulk_out(BULK_OUT, bytes(ECHO_BYTES))
    waiting = port.guest.bulk_out(BULK_OUT, b"more")
    assert port.bulk() == [(first, OK, b"")]

    reading = port.guest.bulk_in(BULK_IN, ECHO_BYTES)

    assert port.bulk() == [(reading, OK, bytes(ECHO_BYTES)), (waiting, OK, b"")]


def test_dtr_opens_the_port_and_brings_up_carrier(port: Port) -> None:
    port.guest.ask(StartInterruptReceiving(INTERRUPT_IN))
    assert not port.adapter.open

    assert port.set_lines_and_listen(0b11) == LINES_UP
    assert port.adapter.open

    assert port.set_lines_and_listen(0b10) == LINES_DOWN
    assert not port.adapter.open


def test_rts_alone_does_not_open_the_port(port: Port) -> None:
    port.set_lines(0b10)

    assert not port.adapter.open


def test_lines_that_changed_while_nobody_polled_are_told_as_they_are(port: Port) -> None:
    port.set_lines(0b01)
    port.set_lines(0b00)
    port.set_lines(0b01)

    port.guest.send(StartInterruptReceiving(INTERRUPT_IN))

    assert port.guest.pull() == [
        (0, InterruptReceivingStatus(OK, INTERRUPT_IN)),
        (0, InterruptPacket(INTERRUPT_IN, OK, 10, LINES_UP)),
    ]


def test_who_closes_the_port_leaves_nothing_in_it(port: Port) -> None:
    port.set_lines(0b01)
    port.guest.bulk_out(BULK_OUT, b"unread")
    port.guest.pull()
    port.set_lines(0b00)

    port.guest.bulk_in(BULK_IN, 64)

    assert port.bulk() == []


def test_line_coding_is_kept(port: Port) -> None:
    coding = bytes.fromhex("00c20100 02 01 07")  # 115200 bit/s, 2 stop bits, odd, 7 bits

    assert port.guest.control(0xA1, 0x21, 0, 0, 7) == (OK, bytes.fromhex("80250000 00 00 08"))
    assert port.guest.control(0x21, 0x20, 0, 0, 7, coding) == (OK, b"")

    assert port.guest.control(0xA1, 0x21, 0, 0, 7) == (OK, coding)
    assert port.adapter.line_coding == LineCoding(115200, stop=2, parity=1, data_bits=7)


@pytest.mark.parametrize(
    "coding",
    [
        pytest.param("80250000 00 00", id="too short"),
        pytest.param("80250000 03 00 08", id="no such stop bits"),
        pytest.param("80250000 00 05 08", id="no such parity"),
        pytest.param("80250000 00 00 09", id="no such size"),
    ],
)
def test_framing_that_does_not_exist_stalls_and_changes_nothing(port: Port, coding: str) -> None:
    data = bytes.fromhex(coding)

    assert port.guest.control(0x21, 0x20, 0, 0, len(data), data) == STALL
    assert port.adapter.line_coding == LineCoding()


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param((0x21, 0x22, 1, 1, 0), id="lines of the data interface"),
        pytest.param((0x21, 0x22, 1, 0, 1), id="lines with data"),
        pytest.param((0x21, 0x23, 0xFFFF, 0, 0), id="break"),
        pytest.param((0x21, 0x00, 0, 0, 0), id="encapsulated command"),
        pytest.param((0xA1, 0x21, 1, 0, 7), id="line coding, wrong value"),
    ],
)
def test_unknown_request_stalls(port: Port, request_: tuple[int, int, int, int, int]) -> None:
    data = b"" if request_[0] & INPUT else bytes(request_[4])

    assert port.guest.control(*request_, data) == STALL


def test_reset_closes_the_port_and_forgets_framing_and_characters(port: Port) -> None:
    port.set_lines(0b01)
    port.guest.control(0x21, 0x20, 0, 0, 7, bytes.fromhex("00c20100 02 01 07"))
    port.guest.bulk_out(BULK_OUT, b"unread")
    port.guest.pull()

    port.guest.ask(Reset())

    assert not port.adapter.open
    assert port.adapter.line_coding == LineCoding()
    port.guest.bulk_in(BULK_IN, 64)
    assert port.bulk() == []


def test_setting_one_interface_leaves_the_transfers_of_the_other_alone(port: Port) -> None:
    reading = port.guest.bulk_in(BULK_IN, 64)
    port.guest.ask(StartInterruptReceiving(INTERRUPT_IN))

    control = port.guest.ask(SetAltSetting(0, 0))
    assert AltSettingStatus(OK, 0, 0) in control
    assert port.guest.ask(StartInterruptReceiving(INTERRUPT_IN)) == [
        InterruptReceivingStatus(OK, INTERRUPT_IN)  # it was stopped
    ]
    writing = port.guest.bulk_out(BULK_OUT, b"still here")
    assert port.bulk() == [(writing, OK, b""), (reading, OK, b"still here")]


def test_setting_an_interface_cancels_its_own_transfers(port: Port) -> None:
    reading = port.guest.bulk_in(BULK_IN, 64)

    port.guest.send(SetAltSetting(1, 0))

    assert port.bulk() == [(reading, Status.CANCELLED, b"")]


def test_setting_an_interface_cancels_what_is_on_its_way_to_it() -> None:
    guest = Guest(SerialAdapter("SERIAL001"), latency_s=0.1)
    guest.connect()
    writing = guest.bulk_out(BULK_OUT, b"lost")
    asking = guest.codec.next_id()
    guest.send(ControlPacket(INPUT, 0x21, 0xA1, OK, 0, 0, 7), asking)

    guest.send(SetAltSetting(1, 0))
    assert [each for each in guest.pull() if each[0]] == [
        (writing, BulkPacket(BULK_OUT, Status.CANCELLED, 0))
    ]

    guest.clock.advance(0.1)
    assert [packet_id for packet_id, _ in guest.pull()] == [asking]


def test_setting_an_interface_clears_its_own_halts_only(port: Port) -> None:
    for endpoint in (INTERRUPT_IN, BULK_IN):
        assert port.guest.control(0x02, 3, 0, endpoint, 0) == (OK, b"")

    assert port.guest.control(0x01, 11, 0, 1, 0) == (OK, b"")

    assert port.guest.control(0x82, 0, 0, INTERRUPT_IN, 2) == (OK, b"\x01\0")
    assert port.guest.control(0x82, 0, 0, BULK_IN, 2) == (OK, b"\0\0")
