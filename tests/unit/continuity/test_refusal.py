from __future__ import annotations

import pytest

from kubectl_vmredir.continuity.refusal import refuse
from kubectl_vmredir.protocol.constants import ALL_CAPS, NO_CAPS, Cap, Side, Status
from kubectl_vmredir.protocol.control import (
    AllocBulkStreams,
    AltSettingStatus,
    ConfigurationStatus,
    GetAltSetting,
    GetConfiguration,
    Reset,
    SetAltSetting,
    SetConfiguration,
    StartInterruptReceiving,
)
from kubectl_vmredir.protocol.data import BulkPacket, ControlPacket, InterruptPacket, IsoPacket
from kubectl_vmredir.protocol.description import Hello
from kubectl_vmredir.protocol.packets import Packet
from kubectl_vmredir.protocol.spans import Span, SpanTracker
from tests.support.wire import wire

OK, IOERROR = Status.SUCCESS, Status.IOERROR


def request_span(packet: Packet, caps: Cap) -> Span:
    tracker = SpanTracker(Side.GUEST, own_caps=caps)
    tracker.feed(wire(Hello("", caps)))
    (span,) = tracker.feed(wire((7, packet), caps=caps))
    return span


ANSWERS = [
    pytest.param(
        ControlPacket(0x80, 6, 0x80, OK, 0x100, 2, 18),
        ControlPacket(0x80, 6, 0x80, IOERROR, 0x100, 2, 0),
        id="control-in",
    ),
    pytest.param(
        ControlPacket(0x00, 9, 0x21, OK, 0x200, 0, 3, b"abc"),
        ControlPacket(0x00, 9, 0x21, IOERROR, 0x200, 0, 0),
        id="control-out",
    ),
    pytest.param(BulkPacket(0x81, OK, 4096, 5), BulkPacket(0x81, IOERROR, 0, 5), id="bulk-in"),
    pytest.param(BulkPacket(0x02, OK, 3, 0, b"abc"), BulkPacket(0x02, IOERROR, 0), id="bulk-out"),
    pytest.param(
        InterruptPacket(0x04, OK, 9, b"123456789"),
        InterruptPacket(0x04, IOERROR, 0),
        id="interrupt-out",
    ),
    pytest.param(SetConfiguration(2), ConfigurationStatus(IOERROR, 1), id="set-configuration"),
    pytest.param(GetConfiguration(), ConfigurationStatus(IOERROR, 1), id="get-configuration"),
    pytest.param(SetAltSetting(3, 1), AltSettingStatus(IOERROR, 3, 255), id="set-alt-setting"),
    pytest.param(GetAltSetting(3), AltSettingStatus(IOERROR, 3, 255), id="get-alt-setting"),
]


@pytest.mark.parametrize(("request_", "answer"), ANSWERS)
@pytest.mark.parametrize("caps", [ALL_CAPS, NO_CAPS], ids=["all-caps", "no-caps"])
def test_a_request_ends_with_ioerror(request_: Packet, answer: Packet, caps: Cap) -> None:
    span = request_span(request_, caps)

    assert refuse(span, configuration=1, caps=caps) == wire((7, answer), caps=caps)


@pytest.mark.parametrize(
    "packet",
    [
        IsoPacket(0x06, OK, 1, b"x"),
        Reset(),
        StartInterruptReceiving(0x83),
        # A bad status of these makes QEMU unplug the device by itself.
        AllocBulkStreams(2, 4),
    ],
    ids=lambda packet: packet.type.label,
)
def test_what_nobody_waits_for_is_not_answered(packet: Packet) -> None:
    span = request_span(packet, ALL_CAPS)

    assert refuse(span, configuration=1, caps=ALL_CAPS) == b""
