from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    ENDPOINT_COUNT,
    NO_CAPS,
    Cap,
    PacketType,
    Status,
    agree,
    endpoint_address,
    endpoint_index,
)
from tests.support import protocol_strategies as strategies


def test_caps_are_agreed_when_both_sides_have_them() -> None:
    own = Cap.FILTER | Cap.IDS_64BITS
    theirs = Cap.BULK_RECEIVING | Cap.IDS_64BITS

    assert agree(own, theirs) == Cap.IDS_64BITS
    assert agree(ALL_CAPS, ALL_CAPS) == ALL_CAPS


@pytest.mark.parametrize(
    ("own", "theirs"),
    [(ALL_CAPS, Cap.BULK_STREAMS), (Cap.BULK_STREAMS, ALL_CAPS)],
    ids=["theirs", "own"],
)
def test_bulk_streams_do_not_count_without_max_packet_size(own: Cap, theirs: Cap) -> None:
    assert agree(own, theirs) == NO_CAPS


@given(own=strategies.caps, theirs=strategies.caps)
def test_both_sides_agree_on_the_same_caps(own: Cap, theirs: Cap) -> None:
    assert agree(own, theirs) == agree(theirs, own)
    assert agree(own, theirs) in own & theirs


def test_status_of_a_later_version_is_kept_and_is_no_success() -> None:
    status = Status(200)

    assert status == 200
    assert status != Status.SUCCESS
    assert status.name == "UNKNOWN_200"


@pytest.mark.parametrize("value", [-1, 256])
def test_status_has_one_byte(value: int) -> None:
    with pytest.raises(ValueError, match="not a valid Status"):
        Status(value)


@pytest.mark.parametrize(
    ("address", "index"), [(0x00, 0), (0x01, 1), (0x0F, 15), (0x80, 16), (0x81, 17), (0x8F, 31)]
)
def test_endpoints_are_counted_out_first(address: int, index: int) -> None:
    assert endpoint_index(address) == index
    assert endpoint_address(index) == address


@given(address=st.integers(0, 0xFF))
def test_every_endpoint_address_has_a_place(address: int) -> None:
    assert 0 <= endpoint_index(address) < ENDPOINT_COUNT


def test_data_packets_are_those_from_control_packet_on() -> None:
    assert {each.label for each in PacketType if each.is_data} == {
        "control_packet",
        "bulk_packet",
        "iso_packet",
        "interrupt_packet",
        "buffered_bulk_packet",
    }
