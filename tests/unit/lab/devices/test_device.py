"""Chapter 9 and the class requests of a stick, asked through usbredir control packets."""

import pytest

from kubectl_vmredir.lab.devices.stick import BULK_IN, BULK_OUT, Stick
from kubectl_vmredir.protocol.constants import Status
from kubectl_vmredir.protocol.control import SetConfiguration
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket
from tests.support.usb_guest import Guest, cbw, csw

TEST_UNIT_READY = bytes(6)
OK = Status.SUCCESS
STALL = (Status.STALL, b"")


@pytest.fixture
def guest() -> Guest:
    guest = Guest(Stick("FLASH001", bytes(4096)))
    guest.connect()
    return guest


def statuses(guest: Guest) -> list[tuple[int, Status, bytes]]:
    """Return the answers to bulk transfers that came since the last look."""
    return [
        (packet_id, packet.status, packet.data)
        for packet_id, packet in guest.pull()
        if isinstance(packet, BulkPacket)
    ]


def clear_halt(guest: Guest, endpoint: int) -> None:
    assert guest.control(0x02, 1, 0, endpoint, 0) == (OK, b"")


REQUESTS = [
    pytest.param((0x80, 6, 0x0100, 0, 8), (OK, "12 01 0002 00 00 00 40"), id="8 bytes of device"),
    pytest.param((0x80, 6, 0x0100, 0, 64), (OK, "12010002000000400912010000010102 0301"), id="18"),
    pytest.param((0x80, 6, 0x0300, 0, 255), (OK, "04 03 09 04"), id="languages"),
    pytest.param((0x80, 6, 0x0600, 0, 10), (OK, "0a 06 0002 00 00 00 40 01 00"), id="qualifier"),
    pytest.param((0x80, 6, 0x0F00, 0, 5), (Status.STALL, ""), id="binary object store"),
    pytest.param((0x80, 0, 0, 0, 2), (OK, "0000"), id="device status"),
    pytest.param((0x81, 0, 0, 0, 2), (OK, "0000"), id="interface status"),
    pytest.param((0x81, 0, 0, 1, 2), (Status.STALL, ""), id="status of no interface"),
    pytest.param((0x82, 0, 0, 0x81, 2), (OK, "0000"), id="endpoint status"),
    pytest.param((0x82, 0, 0, 0x00, 2), (OK, "0000"), id="status of endpoint zero"),
    pytest.param((0x82, 0, 0, 0x83, 2), (Status.STALL, ""), id="status of no endpoint"),
    pytest.param((0x80, 8, 0, 0, 1), (OK, "01"), id="configuration"),
    pytest.param((0x81, 10, 0, 0, 1), (OK, "00"), id="alternate setting"),
    pytest.param((0x81, 10, 0, 1, 1), (Status.STALL, ""), id="alternate setting of no interface"),
    pytest.param((0x00, 3, 1, 0, 0), (Status.STALL, ""), id="remote wakeup"),
    pytest.param((0x00, 5, 7, 0, 0), (Status.STALL, ""), id="set address"),
    pytest.param((0x00, 9, 2, 0, 0), (Status.STALL, ""), id="configuration that is not there"),
    pytest.param((0x01, 11, 1, 0, 0), (Status.STALL, ""), id="alternate that is not there"),
    pytest.param((0x02, 1, 0, 0x83, 0), (Status.STALL, ""), id="clear halt of no endpoint"),
    pytest.param((0x02, 3, 0, 0x00, 0), (Status.STALL, ""), id="halt endpoint zero"),
    pytest.param((0x82, 12, 0, 0x81, 2), (Status.STALL, ""), id="synch frame"),
    pytest.param((0xC0, 0x51, 0, 0, 2), (Status.STALL, ""), id="vendor request"),
    pytest.param((0xA1, 0xFE, 0, 0, 1), (OK, "00"), id="get max lun"),
    pytest.param((0xA1, 0xFE, 1, 0, 1), (Status.STALL, ""), id="get max lun, wrong value"),
    pytest.param((0xA1, 0xFE, 0, 1, 1), (Status.STALL, ""), id="get max lun, no such interface"),
    pytest.param((0x21, 0xFF, 0, 0, 0), (OK, ""), id="bulk-only reset"),
    pytest.param((0x21, 0xFE, 0, 0, 0), (Status.STALL, ""), id="get max lun, wrong direction"),
]


@pytest.mark.parametrize(("request_", "expected"), REQUESTS)
def test_control_request(
    guest: Guest, request_: tuple[int, int, int, int, int], expected: tuple[Status, str]
) -> None:
    status, data = expected

    assert guest.control(*request_) == (status, bytes.fromhex(data))


def test_serial_numbers_of_two_sticks_differ_over_the_wire(guest: Guest) -> None:
    other = Guest(Stick("FLASH002", bytes(512)))
    other.connect()

    serials = [each.control(0x80, 6, 0x0303, 0x0409, 255)[1] for each in (guest, other)]

    assert [serial[2:].decode("utf-16-le") for serial in serials] == ["FLASH001", "FLASH002"]


def test_endpoint_halts_and_is_cleared_by_request(guest: Guest) -> None:
    assert guest.control(0x02, 3, 0, BULK_IN, 0) == (OK, b"")
    assert guest.control(0x82, 0, 0, BULK_IN, 2) == (OK, b"\x01\0")
    transfer = guest.bulk_in(BULK_IN, 13)
    assert statuses(guest) == [(transfer, Status.STALL, b"")]

    clear_halt(guest, BULK_IN)
    assert guest.control(0x82, 0, 0, BULK_IN, 2) == (OK, b"\0\0")


def test_status_comes_after_the_halt_is_cleared(guest: Guest) -> None:
    guest.bulk_out(BULK_OUT, cbw(TEST_UNIT_READY, 64))  # fails: unit attention
    transfers = [guest.bulk_in(BULK_IN, 64), guest.bulk_in(BULK_IN, 13)]
    assert statuses(guest)[1:] == [(transfer, Status.STALL, b"") for transfer in transfers]

    clear_halt(guest, BULK_IN)
    transfer = guest.bulk_in(BULK_IN, 13)
    assert statuses(guest) == [(transfer, OK, csw(1, 64))]


def test_invalid_command_stalls_until_reset_recovery(guest: Guest) -> None:
    broken = guest.bulk_out(BULK_OUT, b"garbage")
    assert statuses(guest) == [(broken, OK, b"")]

    for endpoint in (BULK_IN, BULK_OUT):
        clear_halt(guest, endpoint)
        assert guest.control(0x82, 0, 0, endpoint, 2) == (OK, b"\x01\0")
    transfer_out = guest.bulk_out(BULK_OUT, cbw(TEST_UNIT_READY))
    transfer_in = guest.bulk_in(BULK_IN, 13)
    assert statuses(guest) == [(transfer_out, Status.STALL, b""), (transfer_in, Status.STALL, b"")]

    # Section 5.3.4: reset, then clear the halt of both endpoints.
    assert guest.control(0x21, 0xFF, 0, 0, 0) == (OK, b"")
    assert guest.control(0x82, 0, 0, BULK_IN, 2) == (OK, b"\x01\0")
    clear_halt(guest, BULK_IN)
    clear_halt(guest, BULK_OUT)
    guest.bulk_out(BULK_OUT, cbw(TEST_UNIT_READY))
    transfer_in = guest.bulk_in(BULK_IN, 13)
    assert statuses(guest)[1:] == [(transfer_in, OK, csw(1))]


def test_device_without_configuration_has_no_endpoints_and_no_interface(guest: Guest) -> None:
    guest.ask(SetConfiguration(0))

    assert guest.control(0x80, 8, 0, 0, 1) == (OK, b"\0")
    assert guest.control(0x81, 10, 0, 0, 1) == STALL
    assert guest.control(0xA1, 0xFE, 0, 0, 1) == STALL
    assert guest.control(0x82, 0, 0, BULK_IN, 2) == STALL
    assert guest.control(0x00, 9, 1, 0, 0) == (OK, b"")
    assert guest.control(0xA1, 0xFE, 0, 0, 1) == (OK, b"\0")


@pytest.mark.parametrize(
    ("endpoint", "request_type"),
    [
        pytest.param(0x81, 0x80, id="not endpoint zero"),
        pytest.param(0x80, 0x00, id="directions disagree"),
    ],
)
def test_control_transfer_that_makes_no_sense_is_invalid(
    guest: Guest, endpoint: int, request_type: int
) -> None:
    [answer] = guest.ask(ControlPacket(endpoint, 6, request_type, OK, 0x0100, 0, 18))

    assert isinstance(answer, ControlPacket)
    assert (answer.status, answer.length, answer.data) == (Status.INVAL, 0, b"")
