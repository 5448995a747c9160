from __future__ import annotations

import pytest

from kubectl_vmredir.continuity.ledger import MAX_IN_FLIGHT_BYTES, MAX_OPEN, Ledger
from kubectl_vmredir.errors import RemoteProtocolError
from kubectl_vmredir.protocol.constants import ALL_CAPS, NO_CAPS, Cap, Side, Status
from kubectl_vmredir.protocol.control import (
    AltSettingStatus,
    ConfigurationStatus,
    GetAltSetting,
    GetConfiguration,
    SetConfiguration,
)
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket, InterruptPacket
from kubectl_vmredir.protocol.description import Hello
from kubectl_vmredir.protocol.packets import Packet
from kubectl_vmredir.protocol.spans import Span, SpanTracker
from tests.support.wire import wire

OK = Status.SUCCESS


def span(side: Side, packet_id: int, packet: Packet, caps: Cap = ALL_CAPS) -> Span:
    tracker = SpanTracker(side, own_caps=caps)
    tracker.feed(wire(Hello("", caps)))
    (found,) = tracker.feed(wire((packet_id, packet), caps=caps))
    return found


def ask(ledger: Ledger, packet_id: int, packet: Packet, caps: Cap = ALL_CAPS) -> None:
    ledger.ask(span(Side.GUEST, packet_id, packet, caps))


def answered(ledger: Ledger, packet_id: int, packet: Packet, caps: Cap = ALL_CAPS) -> bool:
    return ledger.answer(span(Side.HOST, packet_id, packet, caps)) is not None


PAIRS = [
    pytest.param(BulkPacket(0x81, OK, 512), BulkPacket(0x81, OK, 4, 0, b"data"), id="bulk-in"),
    pytest.param(BulkPacket(0x02, OK, 4, 0, b"data"), BulkPacket(0x02, OK, 4), id="bulk-out"),
    pytest.param(
        ControlPacket(0x80, 6, 0x80, OK, 0, 0, 18),
        ControlPacket(0x80, 6, 0x80, OK, 0, 0, 18, bytes(18)),
        id="control-in",
    ),
    pytest.param(
        InterruptPacket(0x04, OK, 1, b"x"), InterruptPacket(0x04, OK, 1), id="interrupt-out"
    ),
    pytest.param(SetConfiguration(1), ConfigurationStatus(OK, 1), id="configuration"),
    pytest.param(GetAltSetting(1), AltSettingStatus(OK, 1, 0), id="alt-setting"),
]


@pytest.mark.parametrize(("request_", "answer"), PAIRS)
@pytest.mark.parametrize("caps", [ALL_CAPS, NO_CAPS], ids=["all-caps", "no-caps"])
def test_a_request_is_answered_once(request_: Packet, answer: Packet, caps: Cap) -> None:
    ledger = Ledger()
    ask(ledger, 7, request_, caps)
    assert ledger.open == 1

    assert not answered(ledger, 8, answer, caps)
    assert answered(ledger, 7, answer, caps)
    assert not answered(ledger, 7, answer, caps)
    assert ledger.open == ledger.in_flight_bytes == 0


def test_an_answer_from_another_endpoint_is_the_answer_to_nothing() -> None:
    ledger = Ledger()
    ask(ledger, 7, BulkPacket(0x81, OK, 512))

    assert not answered(ledger, 7, BulkPacket(0x02, OK, 512))
    assert not answered(ledger, 7, ControlPacket(0x80, 6, 0x80, OK, 0, 0, 0))
    assert ledger.open == 1


def test_an_id_that_is_used_again_stands_for_the_older_request_first() -> None:
    ledger = Ledger()
    ask(ledger, 7, BulkPacket(0x81, OK, 512))
    ledger.cancel(7)
    ask(ledger, 7, BulkPacket(0x81, OK, 13))

    assert answered(ledger, 7, BulkPacket(0x81, Status.CANCELLED, 0))
    (left,) = ledger
    assert left.span.size == 13
    assert not left.cancelled


def test_bulk_requests_of_one_endpoint_are_answered_in_turn() -> None:
    ledger = Ledger()
    ask(ledger, 1, BulkPacket(0x81, OK, 512))
    ask(ledger, 2, BulkPacket(0x81, OK, 512))

    with pytest.raises(RemoteProtocolError, match="endpoint 0x81 answered out of turn"):
        answered(ledger, 2, BulkPacket(0x81, OK, 0))


def test_a_cancelled_request_keeps_nobody_waiting() -> None:
    ledger = Ledger()
    ask(ledger, 1, BulkPacket(0x81, OK, 512))
    ask(ledger, 2, BulkPacket(0x81, OK, 512))
    ask(ledger, 3, BulkPacket(0x81, OK, 512))
    ledger.cancel(2)
    assert [request.cancelled for request in ledger] == [False, True, False]

    assert answered(ledger, 2, BulkPacket(0x81, Status.CANCELLED, 0))
    assert not answered(ledger, 2, BulkPacket(0x81, Status.CANCELLED, 0))
    ledger.cancel(1)
    assert answered(ledger, 3, BulkPacket(0x81, OK, 0))
    assert answered(ledger, 1, BulkPacket(0x81, Status.CANCELLED, 0))


def test_bulk_streams_and_other_endpoints_have_no_turns() -> None:
    ledger = Ledger()
    control = ControlPacket(0x80, 6, 0x80, OK, 0, 0, 18)
    for packet_id in (1, 2):
        ask(ledger, packet_id, BulkPacket(0x81, OK, 512, packet_id))
        ask(ledger, packet_id, control)

    assert answered(ledger, 2, BulkPacket(0x81, OK, 0, 2))
    assert answered(ledger, 2, ControlPacket(0x80, 6, 0x80, OK, 0, 0, 0))
    assert ledger.open == 2


def test_more_data_than_asked_for_is_a_fault() -> None:
    ledger = Ledger()
    ask(ledger, 1, BulkPacket(0x81, OK, 3))

    with pytest.raises(RemoteProtocolError, match="more data than was asked for"):
        answered(ledger, 1, BulkPacket(0x81, OK, 4, 0, b"data"))


def test_an_unknown_id_or_a_command_is_not_cancelled() -> None:
    ledger = Ledger()
    ask(ledger, 7, SetConfiguration(1))

    ledger.cancel(7)
    ledger.cancel(8)

    assert [request.cancelled for request in ledger] == [False]


def test_all_data_packets_are_cancelled_in_order() -> None:
    ledger = Ledger()
    ask(ledger, 3, BulkPacket(0x81, OK, 512))
    ask(ledger, 1, BulkPacket(0x02, OK, 1, 0, b"x"))
    ask(ledger, 2, BulkPacket(0x81, OK, 512))
    ask(ledger, 9, GetConfiguration())

    assert ledger.cancel_all() == [3, 1, 2]
    assert [request.cancelled for request in ledger] == [True, True, True, False]


def test_requests_in_flight_are_bounded() -> None:
    ledger = Ledger()
    for packet_id in range(MAX_OPEN):
        ask(ledger, packet_id, BulkPacket(0x81, OK, 1))

    with pytest.raises(RemoteProtocolError, match="more than 1024 requests"):
        ask(ledger, MAX_OPEN, BulkPacket(0x81, OK, 1))


def test_bytes_in_flight_are_bounded_and_count_what_is_asked_for() -> None:
    ledger = Ledger()
    mebibyte = 1 << 20
    for packet_id in range(MAX_IN_FLIGHT_BYTES // mebibyte):
        ask(ledger, packet_id, BulkPacket(0x81, OK, mebibyte))
    assert ledger.in_flight_bytes == MAX_IN_FLIGHT_BYTES

    with pytest.raises(RemoteProtocolError, match="more than 16777216 bytes"):
        ask(ledger, 99, BulkPacket(0x02, OK, 1, 0, b"x"))


def test_nothing_is_open_after_clear() -> None:
    ledger = Ledger()
    ask(ledger, 1, BulkPacket(0x81, OK, 512))

    ledger.clear()

    assert list(ledger) == []
    assert ledger.open == ledger.in_flight_bytes == 0
