from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubectl_vmredir.model import UsbClass
from kubectl_vmredir.usb.descriptors import (
    MAX_TEXT,
    Description,
    application_usages,
    decode_string,
    parse_descriptors,
)
from tests.support.usb_machine import (
    HID,
    KEYBOARD,
    MASS_STORAGE,
    configuration,
    device_descriptor,
    interface_descriptor,
)

# As the kernel had them of real (emulated and gadget) devices.
STICK = (
    "1201000300000009f446010000000102030109022c00010106c0000904000002080650000705810200040006300f"
    "0000000705020200040006300f000000"
)
FIDO = (
    "1201000200000040501020011205010203010902290001010480010904000002030000050921010100012222000705"
    "810340000407050203400004"
)
FIDO_REPORT = "06d0f10901a1010920150026ff007508954081020921150026ff00750895409102c0"
KEYBOARD_REPORT = (
    "05010906a101750195080507190 0e029e715002501810295017508810195057501050819012905910295017503"
    "910195067508150025ff050719002 9ff8100c0"
).replace(" ", "")


def test_recorded_stick_is_read() -> None:
    assert parse_descriptors(bytes.fromhex(STICK)) == Description(
        device_class=0, manufacturer=1, product=2, serial=3, classes=(MASS_STORAGE,)
    )


def test_recorded_security_key_is_read() -> None:
    assert parse_descriptors(bytes.fromhex(FIDO)).classes == (HID,)


def test_interfaces_are_in_the_order_of_their_numbers() -> None:
    data = device_descriptor() + configuration(
        interface_descriptor(2, MASS_STORAGE), interface_descriptor(0, HID)
    )

    assert parse_descriptors(data).classes == (HID, MASS_STORAGE)


def test_only_alternate_setting_0_counts() -> None:
    data = device_descriptor() + configuration(
        interface_descriptor(0, MASS_STORAGE), interface_descriptor(0, HID, alternate=1)
    )

    assert parse_descriptors(data).classes == (MASS_STORAGE,)


def test_only_the_first_configuration_counts() -> None:
    data = (
        device_descriptor()
        + configuration(interface_descriptor(0, MASS_STORAGE))
        + configuration(interface_descriptor(0, MASS_STORAGE), interface_descriptor(1, KEYBOARD))
    )

    assert parse_descriptors(data).classes == (MASS_STORAGE,)


def test_descriptors_of_unknown_types_are_passed_over() -> None:
    data = device_descriptor() + configuration(
        b"\x08\x0b\x00\x02\x02\x02\x01\x00",  # interface association
        interface_descriptor(0, MASS_STORAGE),
        b"\x05\xff\x01\x02\x03",
        interface_descriptor(1, HID),
    )

    assert parse_descriptors(data).classes == (MASS_STORAGE, HID)


def test_a_descriptor_of_length_0_ends_what_can_be_read() -> None:
    data = device_descriptor() + configuration(
        interface_descriptor(0, MASS_STORAGE), b"\0\0", interface_descriptor(1, HID)
    )

    assert parse_descriptors(data).classes == (MASS_STORAGE,)


def test_an_interface_that_is_cut_is_left_out() -> None:
    data = device_descriptor() + configuration(interface_descriptor(0, MASS_STORAGE))

    assert parse_descriptors(data[:-1]).classes == ()


def test_a_short_interface_descriptor_is_left_out() -> None:
    data = device_descriptor() + configuration(b"\x05\x04\x00\x00\x00")

    assert parse_descriptors(data).classes == ()


def test_device_without_configuration_has_its_own_class_only() -> None:
    assert parse_descriptors(device_descriptor(base=9)) == Description(device_class=9)


@given(st.binary(max_size=300))
def test_any_bytes_are_descriptors(data: bytes) -> None:
    parse_descriptors(data)
    parse_descriptors(device_descriptor() + data)
    parse_descriptors(device_descriptor() + configuration(data))


def test_string_is_read() -> None:
    assert decode_string(b"\x0a\x03" + "Stïk".encode("utf-16-le")) == "Stïk"


def test_string_ends_where_it_says() -> None:
    assert decode_string(b"\x04\x03A\0B\0") == "A"


@pytest.mark.parametrize("data", [b"", b"\x02", b"\x02\x03", b"\x04\x05A\0"])
def test_what_is_no_string_is_empty(data: bytes) -> None:
    assert decode_string(data) == ""


@given(st.binary(max_size=300))
@example(b"\xff\x03" + b"\x00\xd8" * 126)  # surrogates without their other half
@example(b"\x05\x03A\0B")  # half a character
def test_any_bytes_become_text_that_can_be_written(data: bytes) -> None:
    text = decode_string(data)

    text.encode()
    assert len(text) <= MAX_TEXT


def test_usage_of_a_security_key_is_found() -> None:
    assert application_usages(bytes.fromhex(FIDO_REPORT)) == ((0xF1D0, 1),)


def test_usage_of_a_keyboard_is_found() -> None:
    assert application_usages(bytes.fromhex(KEYBOARD_REPORT)) == ((1, 6),)


def test_a_usage_of_four_bytes_has_its_page_in_it() -> None:
    assert application_usages(bytes.fromhex("0501 0b0100d0f1 a101 c0")) == ((0xF1D0, 1),)


def test_collections_that_are_no_application_do_not_count() -> None:
    report = bytes.fromhex("0501 0902 a101 0901 a100 c0 c0")

    assert application_usages(report) == ((1, 2),)


def test_a_usage_is_of_the_next_main_item_only() -> None:
    report = bytes.fromhex("0501 0906 8102 a101 c0")

    assert application_usages(report) == ((0, 0),)


def test_long_items_are_passed_over() -> None:
    report = bytes.fromhex("fe 02 99 0902 0501 0906 a101 c0")

    assert application_usages(report) == ((1, 6),)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_report_descriptor(report: bytes) -> None:
    application_usages(report)


def test_the_longest_descriptors_are_read_in_one_go() -> None:
    classes = tuple(UsbClass(number, 0, 0) for number in range(256))
    data = device_descriptor() + configuration(
        *(interface_descriptor(number, usb_class) for number, usb_class in enumerate(classes)),
        b"\x02\xff" * 31_000,
    )

    assert parse_descriptors(data).classes == classes
