from __future__ import annotations

import pytest

from kubectl_vmredir.continuity.device import Device
from kubectl_vmredir.continuity.fence import Fence
from kubectl_vmredir.continuity.ledger import Ledger
from kubectl_vmredir.protocol.constants import ALL_CAPS, Side, Status
from kubectl_vmredir.protocol.control import (
    AltSettingStatus,
    CancelDataPacket,
    ConfigurationStatus,
    GetConfiguration,
    SetAltSetting,
    StartInterruptReceiving,
    StopInterruptReceiving,
)
from kubectl_vmredir.protocol.data import BulkPacket
from kubectl_vmredir.protocol.description import Hello
from kubectl_vmredir.protocol.packets import Packet
from kubectl_vmredir.protocol.spans import Span, SpanTracker
from tests.support.wire import Numbered, wire

OK = Status.SUCCESS


def spans(side: Side, *packets: Numbered) -> list[Span]:
    tracker = SpanTracker(side, own_caps=ALL_CAPS)
    tracker.feed(wire(Hello("", ALL_CAPS)))
    return tracker.feed(wire(*packets))


class Yard:
    """A fence with what is behind it."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.device = Device()
        self.fence = Fence(self.ledger, self.device)

    def asked(self, *packets: Numbered) -> None:
        for span in spans(Side.GUEST, *packets):
            self.ledger.ask(span)

    def set_up(self, *packets: Packet) -> None:
        for span in spans(Side.GUEST, *packets):
            self.device.command(span)

    def answered(self, *packets: Numbered) -> None:
        for span in spans(Side.HOST, *packets):
            self.fence.reach(self.ledger.answer(span))


@pytest.fixture
def yard() -> Yard:
    return Yard()


def test_everything_is_undone_and_the_fence_comes_last(yard: Yard) -> None:
    yard.asked((7, BulkPacket(0x81, OK, 512)), (8, BulkPacket(0x81, OK, 512)))
    yard.set_up(StartInterruptReceiving(0x83), SetAltSetting(1, 2))

    sent = yard.fence.put_up(ALL_CAPS)

    assert sent == wire(
        (7, CancelDataPacket()),
        (8, CancelDataPacket()),
        StopInterruptReceiving(0x83),
        SetAltSetting(1, 0),
        GetConfiguration(),
    )
    assert yard.fence.up


def test_it_is_down_when_its_answer_has_come(yard: Yard) -> None:
    yard.fence.put_up(ALL_CAPS)
    assert not yard.fence.take_down()

    yard.answered(ConfigurationStatus(OK, 1))

    assert yard.fence.take_down()
    assert not yard.fence.up
    assert not yard.fence.take_down()


def test_an_older_question_of_the_guest_is_not_taken_for_it(yard: Yard) -> None:
    yard.asked(GetConfiguration())
    yard.fence.put_up(ALL_CAPS)

    yard.answered(ConfigurationStatus(OK, 1))

    assert not yard.fence.take_down()
    yard.answered(ConfigurationStatus(OK, 1))
    assert yard.fence.take_down()


def test_an_alternate_setting_is_waited_for(yard: Yard) -> None:
    yard.set_up(SetAltSetting(1, 2))
    yard.fence.put_up(ALL_CAPS)
    yard.answered(ConfigurationStatus(OK, 1))
    assert not yard.fence.take_down()

    yard.answered(AltSettingStatus(OK, 1, 0))

    assert yard.fence.take_down()


def test_a_usb_host_that_answers_a_cancel_late_is_waited_for(yard: Yard) -> None:
    yard.asked((7, BulkPacket(0x81, OK, 512)))
    yard.fence.put_up(ALL_CAPS)
    yard.answered(ConfigurationStatus(OK, 1))
    assert not yard.fence.take_down()

    yard.answered((7, BulkPacket(0x81, Status.CANCELLED, 0)))

    assert yard.fence.take_down()


def test_nothing_is_waited_for_when_the_usb_host_has_ended(yard: Yard) -> None:
    yard.asked((7, BulkPacket(0x81, OK, 512)))
    yard.fence.put_up(ALL_CAPS)

    yard.fence.abandon()

    assert yard.fence.take_down()
    assert yard.ledger.open == 0
