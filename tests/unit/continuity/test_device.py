from __future__ import annotations

import pytest

from kubectl_vmredir.continuity.device import Device
from kubectl_vmredir.protocol.constants import ALL_CAPS, NO_CAPS, Cap, Side, Status
from kubectl_vmredir.protocol.control import (
    AllocBulkStreams,
    ConfigurationStatus,
    FreeBulkStreams,
    Reset,
    SetAltSetting,
    StartBulkReceiving,
    StartInterruptReceiving,
    StartIsoStream,
    StopBulkReceiving,
    StopInterruptReceiving,
    StopIsoStream,
)
from kubectl_vmredir.protocol.description import Hello
from kubectl_vmredir.protocol.packets import Packet
from kubectl_vmredir.protocol.spans import Span, SpanTracker
from tests.support.model_host import CONNECT, INTERFACES, ep_info
from tests.support.wire import wire


def spans(side: Side, *packets: Packet, caps: Cap = ALL_CAPS) -> list[Span]:
    tracker = SpanTracker(side, own_caps=caps)
    tracker.feed(wire(Hello("", caps)))
    return tracker.feed(wire(*packets, caps=caps))


def described(*packets: Packet, caps: Cap = ALL_CAPS) -> Device:
    device = Device()
    for span in spans(Side.HOST, *packets, caps=caps):
        device.describe(span)
    return device


def used(*packets: Packet) -> Device:
    device = Device()
    for span in spans(Side.GUEST, *packets):
        device.command(span)
    return device


@pytest.mark.parametrize("caps", [ALL_CAPS, NO_CAPS], ids=["wide-ids", "narrow-ids"])
def test_the_latest_description_is_replayed_in_libusbredirhost_s_order(caps: Cap) -> None:
    device = described(INTERFACES, ep_info(), CONNECT, ep_info(alternate=True), caps=caps)

    replay = device.replay(caps)

    assert replay == wire(INTERFACES, ep_info(alternate=True), CONNECT, caps=caps)


def test_a_device_that_is_not_connected_is_not_replayed() -> None:
    assert described(INTERFACES, ep_info()).replay(ALL_CAPS) == b""


def test_a_device_without_infos_is_replayed_without_them() -> None:
    assert described(CONNECT).replay(ALL_CAPS) == wire(CONNECT)


def test_a_forgotten_device_is_not_replayed() -> None:
    device = described(INTERFACES, ep_info(), CONNECT)

    device.forget()

    assert device.replay(ALL_CAPS) == b""


UNDONE = [
    pytest.param(StartIsoStream(0x85, 8, 4), StopIsoStream(0x85), id="iso"),
    pytest.param(StartInterruptReceiving(0x83), StopInterruptReceiving(0x83), id="interrupt"),
    pytest.param(StartBulkReceiving(3, 512, 0x81, 5), StopBulkReceiving(3, 0x81), id="bulk"),
    pytest.param(AllocBulkStreams(0b110, 4), FreeBulkStreams(0b110), id="bulk-streams"),
    pytest.param(SetAltSetting(1, 2), SetAltSetting(1, 0), id="alternate-setting"),
]


@pytest.mark.parametrize(("command", "undo"), UNDONE)
def test_what_a_guest_sets_up_is_undone_once(command: Packet, undo: Packet) -> None:
    device = used(command)

    assert device.undo() == [undo]
    assert device.undo() == []


@pytest.mark.parametrize(("command", "undo"), UNDONE[:4])
def test_what_a_guest_ends_itself_is_not_undone(command: Packet, undo: Packet) -> None:
    assert used(command, undo).undo() == []


def test_an_alternate_setting_is_undone_even_if_the_guest_asked_for_it_back() -> None:
    assert used(SetAltSetting(1, 2), SetAltSetting(1, 0)).undo() == [SetAltSetting(1, 0)]


def test_what_leaves_nothing_behind_is_not_undone() -> None:
    assert used(Reset(), SetAltSetting(1, 0), StopIsoStream(0x85)).undo() == []


def test_streams_of_endpoints_are_freed_as_far_as_they_are_left() -> None:
    assert used(AllocBulkStreams(0b110, 4), FreeBulkStreams(0b010)).undo() == [
        FreeBulkStreams(0b100)
    ]


def test_the_configuration_is_the_last_that_was_told() -> None:
    device = Device()
    assert device.configuration == 0

    for span in spans(
        Side.HOST, ConfigurationStatus(Status.SUCCESS, 2), ConfigurationStatus(Status.IOERROR, 0)
    ):
        device.status(span)

    assert device.configuration == 2
