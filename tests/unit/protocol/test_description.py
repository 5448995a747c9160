from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.errors import LocalProtocolError, RemoteProtocolError
from kubectl_vmredir.model import UsbClass
from kubectl_vmredir.protocol.constants import (
    ALL_CAPS,
    NO_CAPS,
    Cap,
    TransferType,
    UsbSpeed,
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
from kubectl_vmredir.protocol.filter import FilterRule
from kubectl_vmredir.protocol.layout import MAX_FILTER_SIZE

VERSION = b"qemu 99".ljust(64, b"\0")


@pytest.mark.parametrize(
    ("words", "caps"),
    [
        ("", NO_CAPS),
        ("05000000", Cap.BULK_STREAMS | Cap.FILTER),
        ("ffffffff 01000000", ALL_CAPS),
        ("01000000" + "ffffffff" * 15, Cap.BULK_STREAMS),
    ],
    ids=["none", "one", "from-the-future", "most"],
)
def test_hello_has_any_number_of_capability_words(words: str, caps: Cap) -> None:
    assert Hello.decode(VERSION + bytes.fromhex(words), NO_CAPS) == Hello("qemu 99", caps)


@pytest.mark.parametrize("size", [0, 63, 65, 70, 129, 132])
def test_hello_is_a_version_and_whole_words_and_not_too_many(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"hello of {size} bytes"):
        Hello.decode(bytes(size), NO_CAPS)


def test_version_without_end_is_cut() -> None:
    assert Hello.decode(b"x" * 64, NO_CAPS).version == "x" * 63
    assert Hello("x" * 100, NO_CAPS).encode(NO_CAPS) == b"x" * 63 + bytes(5)


def test_hello_does_not_depend_on_agreed_caps() -> None:
    hello = Hello("x", ALL_CAPS)

    assert hello.encode(ALL_CAPS) == hello.encode(NO_CAPS)


def test_more_capabilities_than_we_have_words_for_are_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match="hello with a field out of range"):
        Hello("x", Cap(1 << 32)).encode(NO_CAPS)


@given(body=st.binary(min_size=64, max_size=76))
def test_hello_of_any_bytes_parses_or_blames_the_peer(body: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        hello = Hello.decode(body, NO_CAPS)

        assert Hello.decode(hello.encode(NO_CAPS), NO_CAPS).caps == hello.caps


def test_unknown_speed_is_the_fault_of_the_peer() -> None:
    with pytest.raises(RemoteProtocolError, match="unknown speed 4"):
        DeviceConnect.decode(bytes.fromhex("04 00 00 00 5109 6616"), NO_CAPS)


def test_device_version_stays_behind_when_the_peer_does_not_know_it() -> None:
    device = DeviceConnect(UsbSpeed.HIGH, 0, 0, 0, 0x951, 0x1666, 0x110)

    assert len(device.encode(NO_CAPS)) == 8
    assert DeviceConnect.decode(device.encode(NO_CAPS), NO_CAPS).device_version_bcd == 0


def test_interfaces_past_the_count_are_ignored() -> None:
    body = bytes.fromhex("01000000") + bytes.fromhex("07" + "ff" * 31) * 4

    assert InterfaceInfo.decode(body, NO_CAPS) == InterfaceInfo((Interface(7, UsbClass(7, 7, 7)),))


def test_more_than_32_interfaces_are_refused() -> None:
    with pytest.raises(LocalProtocolError, match="33 interfaces"):
        InterfaceInfo((Interface(0, UsbClass(3, 0, 0)),) * 33).encode(NO_CAPS)
    with pytest.raises(RemoteProtocolError, match="33 interfaces"):
        InterfaceInfo.decode((33).to_bytes(4, "little") + bytes(128), NO_CAPS)


def test_endpoints_are_found_by_address() -> None:
    endpoints = [Endpoint()] * 32
    endpoints[2] = out = Endpoint(TransferType.BULK, max_packet_size=512)
    endpoints[17] = into = Endpoint(TransferType.INTERRUPT, interval=4)
    ep_info = EpInfo(tuple(endpoints))

    assert ep_info.at(0x02) is out
    assert ep_info.at(0x81) is into
    assert ep_info.at(0x01).type is TransferType.INVALID


def test_ep_info_tells_of_32_endpoints() -> None:
    with pytest.raises(LocalProtocolError, match="31 endpoints"):
        EpInfo((Endpoint(),) * 31).encode(NO_CAPS)


def test_unknown_endpoint_type_is_the_fault_of_the_peer() -> None:
    with pytest.raises(RemoteProtocolError, match="unknown type: 4 is not"):
        EpInfo.decode(bytes.fromhex("04") + bytes(95), NO_CAPS)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "without NUL"),
        (b"-1,-1,-1,-1,1", "without NUL"),
        (b"-1,-1,-1,-1\0", "bad filter: expected class,vendor"),
        (b"\xff\0", "bad filter"),
        (bytes(MAX_FILTER_SIZE + 1), "of 8193 bytes"),
    ],
    ids=["empty", "no-nul", "short-rule", "no-text", "too-long"],
)
def test_bad_filter_is_the_fault_of_the_peer(body: bytes, fault: str) -> None:
    with pytest.raises(RemoteProtocolError, match=fault):
        FilterFilter.decode(body, NO_CAPS)


def test_a_filter_ends_at_its_first_nul() -> None:
    body = b"0x03,-1,-1,-1,0\0garbage\0"

    assert FilterFilter.decode(body, NO_CAPS) == FilterFilter((FilterRule(3, allow=False),))


def test_a_filter_without_rules_is_one_nul() -> None:
    assert FilterFilter(()).encode(NO_CAPS) == b"\0"
    assert FilterFilter.decode(b"\0", NO_CAPS) == FilterFilter(())


def test_filter_that_is_too_long_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match="filter_filter of 14000 bytes"):
        FilterFilter((FilterRule(),) * 1000).encode(NO_CAPS)
