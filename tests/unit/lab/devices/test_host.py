"""Conversations with the usb-host: what libusbredirhost would answer."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.lab.devices.function import Function
from kubectl_vmredir.lab.devices.host import CAPS
from kubectl_vmredir.lab.devices.keyboard import INTERRUPT_IN, Keyboard
from kubectl_vmredir.lab.devices.stick import BULK_IN, BULK_OUT, Stick
from kubectl_vmredir.lab.devices.transfers import MAX_TRANSFER_BYTES, MAX_TRANSFERS
from kubectl_vmredir.model import UsbClass
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    NO_CAPS,
    Cap,
    Side,
    Status,
    TransferType,
    UsbSpeed,
)
from kubectl_vmredir.protocol.control import (
    AllocBulkStreams,
    AltSettingStatus,
    BulkReceivingStatus,
    BulkStreamsStatus,
    CancelDataPacket,
    ConfigurationStatus,
    DeviceDisconnect,
    DeviceDisconnectAck,
    FilterReject,
    FreeBulkStreams,
    GetAltSetting,
    GetConfiguration,
    InterruptReceivingStatus,
    IsoStreamStatus,
    Reset,
    SetAltSetting,
    SetConfiguration,
    StartBulkReceiving,
    StartInterruptReceiving,
    StartIsoStream,
    StopBulkReceiving,
    StopInterruptReceiving,
    StopIsoStream,
)
from kubectl_vmredir.protocol.data import (
    BufferedBulkPacket,
    BulkPacket,
    ControlPacket,
    InterruptPacket,
    IsoPacket,
)
from kubectl_vmredir.protocol.description import (
    DeviceConnect,
    Endpoint,
    EpInfo,
    FilterFilter,
    Hello,
    Interface,
    InterfaceInfo,
)
from kubectl_vmredir.protocol.packets import Packet
from tests.support.protocol_strategies import packets
from tests.support.usb_guest import Guest, GuestCodec, cbw, csw, read_10, write_10

IMAGE = bytes(range(256)) * 2 * 64
OK = Status.SUCCESS
INQUIRY = bytes.fromhex("12 00 00 00 24 00")
REQUEST_SENSE = bytes.fromhex("03 00 00 00 12 00")

GET_DEVICE = ControlPacket(0x80, 6, 0x80, OK, 0x0100, 0, 18)


@pytest.fixture
def stick() -> Stick:
    return Stick("FLASH001", IMAGE)


@pytest.fixture
def guest(stick: Stick) -> Guest:
    """A guest whose stick is ready, past its unit attention."""
    return ready(Guest(stick))


def ready(guest: Guest) -> Guest:
    guest.connect()
    guest.bulk_out(BULK_OUT, cbw(REQUEST_SENSE, 18))
    guest.bulk_in(BULK_IN, 18)
    guest.bulk_in(BULK_IN, 13)
    guest.clock.advance(1)
    assert guest.pull()[-1][1] == BulkPacket(BULK_IN, OK, 13, data=csw(0))
    return guest


def read(guest: Guest, block: int, count: int) -> bytes:
    """Read blocks; the answers may come at once only."""
    command = guest.bulk_out(BULK_OUT, cbw(read_10(block, count), count * 512))
    data = guest.bulk_in(BULK_IN, count * 512)
    status = guest.bulk_in(BULK_IN, 13)
    answers = dict(guest.pull())
    assert answers[command] == BulkPacket(BULK_OUT, OK, 31)
    assert answers[status] == BulkPacket(BULK_IN, OK, 13, data=csw(0))
    packet = answers[data]
    assert isinstance(packet, BulkPacket)
    assert packet.status is OK
    return packet.data


def infos(usb_class: UsbClass, endpoints: dict[int, Endpoint]) -> list[Packet]:
    every = [Endpoint()] * 32
    every[0] = every[16] = Endpoint(TransferType.CONTROL)
    for place, endpoint in endpoints.items():
        every[place] = endpoint
    return [InterfaceInfo((Interface(0, usb_class),)), EpInfo(tuple(every))]


STICK_INFOS = infos(
    UsbClass(8, 6, 0x50),
    {
        0x02: Endpoint(TransferType.BULK, max_packet_size=512),
        0x11: Endpoint(TransferType.BULK, max_packet_size=512),
    },
)
EMPTY_INFOS = [
    InterfaceInfo(()),
    EpInfo(
        tuple(
            Endpoint(TransferType.CONTROL) if place % 16 == 0 else Endpoint() for place in range(32)
        )
    ),
]


# -- hello --------------------------------------------------------------------------------


def test_hello_comes_before_anything_of_the_guest(stick: Stick) -> None:
    guest = Guest(stick)

    guest.host.start()

    [(packet_id, hello)] = guest.pull()
    assert packet_id == 0
    assert isinstance(hello, Hello)
    assert hello.caps == ALL_CAPS & ~Cap.BULK_STREAMS
    assert hello.version.startswith("kubectl-vmredir ")


def test_stick_is_announced_after_the_hello_of_the_guest(stick: Stick) -> None:
    announced = Guest(stick).connect()

    assert announced == [
        *STICK_INFOS,
        DeviceConnect(UsbSpeed.HIGH, 0, 0, 0, 0x1209, 0x0001, 0x0100),
    ]


def test_keyboard_is_announced_after_the_hello_of_the_guest() -> None:
    announced = Guest(Keyboard("KEYS001")).connect()

    assert announced == [
        *infos(UsbClass(3, 1, 1), {0x11: Endpoint(TransferType.INTERRUPT, 10, 0, 8)}),
        DeviceConnect(UsbSpeed.FULL, 0, 0, 0, 0x1209, 0x0002, 0x0100),
    ]


@pytest.mark.parametrize("caps", [ALL_CAPS, NO_CAPS, Cap.IDS_64BITS, Cap.BULK_LENGTH_32BITS])
def test_guest_of_any_capabilities_reads_the_stick(stick: Stick, caps: Cap) -> None:
    guest = ready(Guest(stick, caps=caps))

    assert read(guest, 1, 3) == IMAGE[512:2048]


# -- configuration and alternate settings ---------------------------------------------------


def test_configuration_that_is_active_already_is_only_confirmed(guest: Guest) -> None:
    assert guest.ask(SetConfiguration(1)) == [ConfigurationStatus(OK, 1)]


def test_new_configuration_is_described_before_it_is_confirmed(guest: Guest) -> None:
    assert guest.ask(SetConfiguration(0)) == [*EMPTY_INFOS, ConfigurationStatus(OK, 0)]
    assert guest.ask(GetConfiguration()) == [ConfigurationStatus(OK, 0)]
    assert guest.ask(SetConfiguration(1)) == [*STICK_INFOS, ConfigurationStatus(OK, 1)]


def test_new_configuration_ends_streams_without_a_word(guest: Guest) -> None:
    guest.send(StartBulkReceiving(0, 512, BULK_IN, 5))
    guest.pull()

    assert guest.ask(SetConfiguration(0)) == [*EMPTY_INFOS, ConfigurationStatus(OK, 0)]
    guest.ask(SetConfiguration(1))

    command = guest.bulk_out(BULK_OUT, cbw(INQUIRY, 36))
    assert [packet_id for packet_id, _ in guest.pull()] == [command]


def test_unknown_configuration_is_an_error_and_changes_nothing(guest: Guest) -> None:
    assert guest.ask(SetConfiguration(2)) == [
        *STICK_INFOS,
        ConfigurationStatus(Status.IOERROR, 1),
    ]


def test_alternate_settings(guest: Guest) -> None:
    assert guest.ask(GetAltSetting(0)) == [AltSettingStatus(OK, 0, 0)]
    assert guest.ask(SetAltSetting(0, 0)) == [*STICK_INFOS, AltSettingStatus(OK, 0, 0)]
    assert guest.ask(SetAltSetting(0, 1)) == [AltSettingStatus(Status.IOERROR, 0, 0)]
    assert guest.ask(SetAltSetting(1, 0)) == [AltSettingStatus(Status.INVAL, 1, 255)]
    assert guest.ask(GetAltSetting(1)) == [AltSettingStatus(Status.INVAL, 1, 255)]


@pytest.mark.parametrize("packet", [SetConfiguration(0), SetAltSetting(0, 0)])
def test_change_of_setting_cancels_what_is_under_way(guest: Guest, packet: Packet) -> None:
    waiting = guest.bulk_in(BULK_IN, 13)

    guest.send(packet, 5)

    assert guest.pull()[0] == (waiting, BulkPacket(BULK_IN, Status.CANCELLED, 0))


# -- transfers ------------------------------------------------------------------------------


def test_blocks_are_read_and_counted(guest: Guest, stick: Stick) -> None:
    assert read(guest, 0, 64) == IMAGE
    assert read(guest, 3, 2) == IMAGE[1536:2560]

    assert stick.bytes_served == len(IMAGE) + 1024


def test_identification_is_not_counted_as_bytes_served(guest: Guest, stick: Stick) -> None:
    guest.bulk_out(BULK_OUT, cbw(INQUIRY, 36))
    guest.bulk_in(BULK_IN, 36)

    assert stick.bytes_served == 0


def test_blocks_are_written(guest: Guest, stick: Stick) -> None:
    guest.bulk_out(BULK_OUT, cbw(write_10(1, 2), 1024, to_host=False))
    data = guest.bulk_out(BULK_OUT, b"w" * 1024)
    status = guest.bulk_in(BULK_IN, 13)

    answers = dict(guest.pull())
    assert answers[data] == BulkPacket(BULK_OUT, OK, 1024)
    assert answers[status] == BulkPacket(BULK_IN, OK, 13, data=csw(0))
    assert stick.bytes_written == 1024
    assert read(guest, 0, 4) == IMAGE[:512] + b"w" * 1024 + IMAGE[1536:2048]


def test_data_may_be_asked_for_before_the_command(guest: Guest) -> None:
    data = guest.bulk_in(BULK_IN, 512)
    assert guest.pull() == []

    command = guest.bulk_out(BULK_OUT, cbw(read_10(0, 1), 512))

    assert [packet_id for packet_id, _ in guest.pull()] == [command, data]


def test_next_command_waits_for_the_status_of_the_last(guest: Guest) -> None:
    guest.bulk_out(BULK_OUT, cbw(bytes(6), tag=1))
    second = guest.bulk_out(BULK_OUT, cbw(bytes(6), tag=2))
    assert [packet_id for packet_id, _ in guest.pull()] == [second - 1]

    guest.bulk_in(BULK_IN, 13)

    status, command = guest.pull()
    assert status[1] == BulkPacket(BULK_IN, OK, 13, data=csw(0, tag=1))
    assert command == (second, BulkPacket(BULK_OUT, OK, 31))


def test_packet_that_does_not_fit_is_babble(guest: Guest) -> None:
    guest.bulk_out(BULK_OUT, cbw(bytes(6)))
    status = guest.bulk_in(BULK_IN, 5)

    assert guest.pull()[-1] == (status, BulkPacket(BULK_IN, Status.BABBLE, 5, data=csw(0)[:5]))


INVALID = [
    pytest.param(BulkPacket(0x83, OK, 512), id="no such endpoint"),
    pytest.param(BulkPacket(0x01, OK, 4, data=b"data"), id="no such endpoint, out"),
    pytest.param(BulkPacket(BULK_IN, OK, 512, stream_id=1), id="stream"),
    pytest.param(InterruptPacket(BULK_OUT, OK, 4, b"data"), id="interrupt on a bulk endpoint"),
    pytest.param(InterruptPacket(0x01, OK, 4, b"data"), id="interrupt on no endpoint"),
]


@pytest.mark.parametrize("packet", INVALID)
def test_transfer_to_a_wrong_endpoint_is_invalid(
    guest: Guest, packet: BulkPacket | InterruptPacket
) -> None:
    [answer] = guest.ask(packet)

    assert isinstance(answer, type(packet))
    assert (answer.endpoint, answer.status, answer.length) == (packet.endpoint, Status.INVAL, 0)
    assert answer.data == b""


# -- cancel -----------------------------------------------------------------------------------


def test_cancelled_transfer_is_answered_once_and_its_id_is_free(guest: Guest) -> None:
    waiting = guest.bulk_in(BULK_IN, 512)

    guest.send(CancelDataPacket(), waiting)
    guest.send(BulkPacket(BULK_IN, OK, 512), waiting)
    guest.bulk_out(BULK_OUT, cbw(read_10(0, 1), 512))

    answers = [packet for packet_id, packet in guest.pull() if packet_id == waiting]
    assert answers == [
        BulkPacket(BULK_IN, Status.CANCELLED, 0),
        BulkPacket(BULK_IN, OK, 512, data=IMAGE[:512]),
    ]


def test_only_the_transfer_that_is_meant_is_cancelled(guest: Guest) -> None:
    first, second = guest.bulk_in(BULK_IN, 512), guest.bulk_in(BULK_IN, 13)

    guest.send(CancelDataPacket(), second)
    assert [packet_id for packet_id, _ in guest.pull()] == [second]

    guest.bulk_out(BULK_OUT, cbw(read_10(0, 1), 512))
    assert [packet_id for packet_id, _ in guest.pull()][1:] == [first]


def test_cancel_of_an_unknown_id_is_not_answered(guest: Guest) -> None:
    assert guest.ask(CancelDataPacket(), 4711) == []


def test_transfer_under_way_is_cancelled_before_the_device_sees_it(stick: Stick) -> None:
    guest = ready(Guest(stick, latency_s=0.1))
    write = guest.bulk_out(BULK_OUT, cbw(write_10(0, 1), 512, to_host=False))
    data = guest.bulk_out(BULK_OUT, b"w" * 512)

    guest.send(CancelDataPacket(), data)
    guest.clock.advance(0.2)

    assert guest.pull() == [
        (data, BulkPacket(BULK_OUT, Status.CANCELLED, 0)),
        (write, BulkPacket(BULK_OUT, OK, 31)),
    ]
    assert stick.bytes_written == 0


# -- latency ----------------------------------------------------------------------------------


def test_answer_takes_the_latency_and_not_less(stick: Stick) -> None:
    guest = ready(Guest(stick, latency_s=0.1))

    guest.send(GET_DEVICE, 1)
    guest.clock.advance(0.05)
    guest.send(GET_DEVICE, 2)
    guest.clock.advance(0.04)
    assert guest.pull() == []
    guest.clock.advance(0.02)
    assert [packet_id for packet_id, _ in guest.pull()] == [1]
    guest.clock.advance(0.05)
    assert [packet_id for packet_id, _ in guest.pull()] == [2]


def test_reset_cancels_what_is_under_way(stick: Stick) -> None:
    guest = ready(Guest(stick, latency_s=0.1))

    guest.send(GET_DEVICE, 1)
    guest.send(Reset())
    guest.clock.advance(1)

    [(packet_id, packet)] = guest.pull()
    assert packet_id == 1
    assert isinstance(packet, ControlPacket)
    assert (packet.status, packet.length) == (Status.CANCELLED, 0)


def test_closed_host_leaves_no_timer_behind(stick: Stick) -> None:
    guest = ready(Guest(stick, latency_s=0.1))
    guest.send(GET_DEVICE, 1)

    guest.host.close()

    assert guest.clock.timers == 0
    guest.clock.advance(1)
    assert guest.pull() == []


# -- reset ------------------------------------------------------------------------------------


def test_reset_has_no_answer_and_ends_the_command(guest: Guest) -> None:
    guest.bulk_out(BULK_OUT, cbw(read_10(0, 2), 1024))
    guest.pull()

    assert guest.ask(Reset()) == []

    assert guest.control(0x80, 8, 0, 0, 1) == (OK, b"\x01")
    guest.bulk_out(BULK_OUT, cbw(bytes(6)))
    guest.bulk_in(BULK_IN, 13)
    assert guest.pull()[-1][1] == BulkPacket(BULK_IN, OK, 13, data=csw(1)), "unit attention"


def test_reset_cures_a_device_that_is_broken(guest: Guest) -> None:
    guest.bulk_out(BULK_OUT, b"garbage")
    guest.pull()

    guest.send(Reset())

    ready_again = guest.bulk_out(BULK_OUT, cbw(bytes(6)))
    assert guest.pull() == [(ready_again, BulkPacket(BULK_OUT, OK, 31))]


def test_reset_cancels_transfers_that_wait(guest: Guest) -> None:
    waiting = guest.bulk_in(BULK_IN, 512)

    guest.send(Reset())

    assert guest.pull() == [(waiting, BulkPacket(BULK_IN, Status.CANCELLED, 0))]


def test_reset_of_an_unused_device_changes_nothing() -> None:
    keyboard = Keyboard("KEYS001")
    guest = Guest(keyboard)
    guest.connect()
    keyboard.press(0x04)

    assert guest.ask(Reset()) == []

    guest.send(StartInterruptReceiving(INTERRUPT_IN))
    assert len(guest.pull()) == 3, "status and two reports"
    assert guest.ask(Reset()) == [InterruptReceivingStatus(Status.STALL, INTERRUPT_IN)]
    assert guest.ask(Reset()) == []


# -- streams ----------------------------------------------------------------------------------


def test_interrupt_receiving_is_started_once() -> None:
    guest = Guest(Keyboard("KEYS001"))
    guest.connect()

    for status in (OK, Status.INVAL):
        assert guest.ask(StartInterruptReceiving(INTERRUPT_IN)) == [
            InterruptReceivingStatus(status, INTERRUPT_IN)
        ]
    for _ in range(2):
        assert guest.ask(StopInterruptReceiving(INTERRUPT_IN)) == [
            InterruptReceivingStatus(OK, INTERRUPT_IN)
        ]


REFUSED = [
    (StartInterruptReceiving(BULK_IN), InterruptReceivingStatus(Status.STALL, BULK_IN)),
    (StartInterruptReceiving(0x80), InterruptReceivingStatus(Status.STALL, 0x80)),
    (StartBulkReceiving(0, 512, 0x83, 5), BulkReceivingStatus(0, 0x83, Status.STALL)),
    (StartBulkReceiving(0, 500, BULK_IN, 5), BulkReceivingStatus(0, BULK_IN, Status.STALL)),
    (StartBulkReceiving(0, 0, BULK_IN, 5), BulkReceivingStatus(0, BULK_IN, Status.STALL)),
    (StartIsoStream(0x84, 8, 4), IsoStreamStatus(Status.STALL, 0x84)),
    (IsoPacket(0x04, OK, 4, b"data"), IsoStreamStatus(Status.STALL, 0x04)),
    (StopIsoStream(0x84), IsoStreamStatus(OK, 0x84)),
    (AllocBulkStreams(1 << 17, 16), BulkStreamsStatus(1 << 17, 16, Status.INVAL)),
    (FreeBulkStreams(1 << 17), BulkStreamsStatus(1 << 17, 0, Status.INVAL)),
]


@pytest.mark.parametrize(("packet", "answer"), REFUSED, ids=lambda packet: type(packet).__name__)
def test_stream_that_the_device_has_not(guest: Guest, packet: Packet, answer: Packet) -> None:
    assert guest.ask(packet) == [answer]


def test_bulk_endpoint_is_read_ahead(guest: Guest) -> None:
    assert guest.ask(StartBulkReceiving(0, 1024, BULK_IN, 5)) == [
        BulkReceivingStatus(0, BULK_IN, OK)
    ]
    guest.bulk_out(BULK_OUT, cbw(read_10(0, 3), 1536))

    assert guest.pull()[1:] == [
        (0, BufferedBulkPacket(0, 1024, BULK_IN, OK, IMAGE[:1024])),
        (1, BufferedBulkPacket(0, 512, BULK_IN, OK, IMAGE[1024:1536])),
        (2, BufferedBulkPacket(0, 13, BULK_IN, OK, csw(0))),
    ]
    assert guest.ask(StopBulkReceiving(0, BULK_IN)) == [BulkReceivingStatus(0, BULK_IN, OK)]
    guest.bulk_out(BULK_OUT, cbw(bytes(6)))
    assert len(guest.pull()) == 1


def test_stall_is_cleared_for_a_guest_that_reads_ahead(guest: Guest) -> None:
    guest.send(StartBulkReceiving(0, 512, BULK_IN, 5))

    guest.bulk_out(BULK_OUT, cbw(b"\xff", 64))

    assert guest.pull()[2:] == [(0, BufferedBulkPacket(0, 13, BULK_IN, OK, csw(1, 64)))]


def test_stall_that_cannot_be_cleared_breaks_the_stream(guest: Guest) -> None:
    guest.send(StartBulkReceiving(0, 512, BULK_IN, 5))

    guest.bulk_out(BULK_OUT, b"garbage")

    assert guest.pull()[2:] == [(0, BulkReceivingStatus(0, BULK_IN, Status.STALL))]


def test_stream_breaks_when_its_endpoint_goes(guest: Guest) -> None:
    guest.send(StartBulkReceiving(0, 512, BULK_IN, 5))

    guest.send(ControlPacket(0x00, 9, 0x00, OK, 0, 0, 0), 9)  # a raw SET_CONFIGURATION

    assert guest.pull()[-1] == (0, BulkReceivingStatus(0, BULK_IN, Status.STALL))


# -- too slow a guest ---------------------------------------------------------------------------


def test_paused_host_keeps_transfers_until_it_is_resumed(guest: Guest) -> None:
    guest.host.pause()
    command = guest.bulk_out(BULK_OUT, cbw(bytes(6)))
    assert guest.pull() == []

    guest.host.resume()

    assert [packet_id for packet_id, _ in guest.pull()] == [command]


def test_paused_host_keeps_reports_until_it_is_resumed() -> None:
    keyboard = Keyboard("KEYS001")
    guest = Guest(keyboard)
    guest.connect()
    guest.ask(StartInterruptReceiving(INTERRUPT_IN))

    guest.host.pause()
    keyboard.type_text("x")
    assert guest.pull() == []
    guest.host.resume()

    assert [packet_id for packet_id, _ in guest.pull()] == [0, 1]


def test_transfers_under_way_are_bounded(guest: Guest) -> None:
    for _ in range(MAX_TRANSFERS):
        guest.bulk_in(BULK_IN, 512)

    with pytest.raises(RemoteProtocolError, match="transfers under way"):
        guest.bulk_in(BULK_IN, 512)


def test_answered_transfer_makes_room_for_another(guest: Guest) -> None:
    waiting = [guest.bulk_in(BULK_IN, 512) for _ in range(MAX_TRANSFERS)]

    guest.send(CancelDataPacket(), waiting[0])

    guest.bulk_in(BULK_IN, 512)


def test_bytes_under_way_are_bounded(stick: Stick) -> None:
    guest = ready(Guest(stick, latency_s=1))
    megabyte = bytes(1 << 20)
    for _ in range(MAX_TRANSFER_BYTES // len(megabyte)):
        guest.bulk_out(BULK_OUT, megabyte)

    with pytest.raises(RemoteProtocolError, match="transfers under way"):
        guest.bulk_out(BULK_OUT, b"x")


# -- unplugged ----------------------------------------------------------------------------------


def test_unplugged_device_fails_what_is_under_way_and_disconnects(stick: Stick) -> None:
    guest = ready(Guest(stick, latency_s=0.1))
    waiting = guest.bulk_in(BULK_IN, 512)
    guest.clock.advance(0.1)
    travelling = guest.bulk_in(BULK_IN, 13)

    guest.host.unplug()
    guest.host.unplug()

    assert guest.pull() == [
        (waiting, BulkPacket(BULK_IN, Status.IOERROR, 0)),
        (travelling, BulkPacket(BULK_IN, Status.IOERROR, 0)),
        (0, DeviceDisconnect()),
    ]


AFTER_UNPLUG = [
    (BulkPacket(BULK_IN, OK, 512), [BulkPacket(BULK_IN, Status.IOERROR, 0)]),
    (GET_DEVICE, [ControlPacket(0x80, 6, 0x80, Status.IOERROR, 0x0100, 0, 0)]),
    (SetConfiguration(0), [ConfigurationStatus(Status.IOERROR, 1)]),
    (GetConfiguration(), [ConfigurationStatus(Status.IOERROR, 1)]),
    (SetAltSetting(0, 0), [AltSettingStatus(Status.IOERROR, 0, 255)]),
    (GetAltSetting(0), [AltSettingStatus(Status.IOERROR, 0, 255)]),
    (
        StartInterruptReceiving(INTERRUPT_IN),
        [InterruptReceivingStatus(Status.STALL, INTERRUPT_IN)],
    ),
    (StopInterruptReceiving(INTERRUPT_IN), []),
    (StopBulkReceiving(0, BULK_IN), []),
    (StopIsoStream(0x84), []),
    (Reset(), []),
    (CancelDataPacket(), []),
    (FilterReject(), []),
    (DeviceDisconnectAck(), []),
]


@pytest.mark.parametrize(("packet", "answers"), AFTER_UNPLUG, ids=lambda item: type(item).__name__)
def test_requests_after_an_unplug(guest: Guest, packet: Packet, answers: list[Packet]) -> None:
    guest.host.unplug()
    guest.pull()

    assert guest.ask(packet) == answers


def test_device_that_went_before_the_hello_of_the_guest_is_not_announced(stick: Stick) -> None:
    guest = Guest(stick)
    guest.host.unplug()

    assert guest.connect() == []


# -- many guests behind one session ---------------------------------------------------------------


def test_session_outlives_guests_that_vanish_in_the_middle_of_a_read(
    guest: Guest, stick: Stick
) -> None:
    # One conversation for the usb-host: continuity cancels for the guest that is gone, and the
    # next one resets and configures the device as if it were new.
    for block in range(5):
        guest.bulk_out(BULK_OUT, cbw(read_10(0, 2), 1024))
        guest.bulk_in(BULK_IN, 1024)
        guest.bulk_in(BULK_IN, 13)
        lost = guest.bulk_in(BULK_IN, 13)
        guest.pull()
        guest.send(CancelDataPacket(), lost)
        assert guest.pull() == [(lost, BulkPacket(BULK_IN, Status.CANCELLED, 0))]

        assert guest.ask(Reset()) == []
        assert guest.ask(SetConfiguration(1)) == [ConfigurationStatus(OK, 1)]
        guest.bulk_out(BULK_OUT, cbw(REQUEST_SENSE, 18))
        guest.bulk_in(BULK_IN, 18)
        guest.bulk_in(BULK_IN, 13)
        guest.pull()
        assert read(guest, block, 1) == IMAGE[block * 512 : (block + 1) * 512]
    assert stick.bytes_served == 5 * (1024 + 512)


# -- guests that misbehave ------------------------------------------------------------------------


def test_device_that_the_guest_rejects_ends_the_session(guest: Guest) -> None:
    with pytest.raises(RemoteProtocolError, match="does not let the device in"):
        guest.send(FilterReject())


def test_filter_of_the_guest_is_not_our_business(guest: Guest) -> None:
    assert guest.ask(FilterFilter(())) == []


def test_second_hello_is_the_fault_of_the_guest(guest: Guest) -> None:
    with pytest.raises(RemoteProtocolError):
        guest.send(Hello("again", ALL_CAPS))


def functions() -> st.SearchStrategy[Function]:
    return st.one_of(
        st.builds(lambda: Stick("S1", IMAGE)),
        st.builds(lambda: Keyboard("K1")),
    )


@given(function=functions(), data=st.binary(max_size=200), hello=st.booleans())
def test_any_bytes_are_answered_or_blamed_on_the_guest(
    function: Function, data: bytes, hello: bool
) -> None:
    guest = Guest(function)
    guest.host.start()
    if hello:
        guest.host.receive(GuestCodec().hello())

    with contextlib.suppress(RemoteProtocolError):
        guest.host.receive(data)


@given(
    function=functions(),
    history=st.lists(packets(Side.GUEST, CAPS), max_size=20),
    latency_s=st.sampled_from([0.0, 0.1]),
)
def test_any_history_of_packets_answers_each_transfer_exactly_once(
    function: Function, history: list[Packet], latency_s: float
) -> None:
    guest = Guest(function, latency_s=latency_s)
    guest.connect()
    asked: set[int] = set()

    with contextlib.suppress(RemoteProtocolError):
        for packet_id, packet in enumerate(history, start=1000):
            if isinstance(packet, BulkPacket | ControlPacket | InterruptPacket):
                asked.add(packet_id)
            # A cancellation is meant for the packet before it.
            is_cancel = isinstance(packet, CancelDataPacket)
            guest.send(packet, packet_id - 1 if is_cancel else packet_id)
            guest.clock.advance(0.03)
    guest.host.unplug()

    answered = [
        packet_id
        for packet_id, packet in guest.pull()
        if isinstance(packet, BulkPacket | ControlPacket | InterruptPacket) and packet_id >= 1000
    ]
    assert sorted(answered) == sorted(asked)
