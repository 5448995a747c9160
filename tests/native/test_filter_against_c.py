"""Differential tests of filter rules against usbredirfilter, which is in libusbredirparser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.model import UsbClass, VendorProduct
from kubectl_vmredir.protocol.filter import FilterRule, allows, format_rules, parse_rules
from tests.support import protocol_strategies as strategies
from tests.support.c_library import load, rule_array, rules_of

pytestmark = pytest.mark.native

DEFAULT_ALLOW = 0x01
DO_NOT_SKIP_NON_BOOT_HID = 0x02

# Small numbers in every base, and what surrounds them; few distinct ones, so that rules match.
NUMBERS = "-1;0;1;3;8;010;0x3;0XfF;+5; 7;\t-1;-2;255;256;65535;65536;09;0x;0xg;1 ;--1;x;;-0;00"
numbers = st.sampled_from(NUMBERS.split(";"))
texts = st.lists(st.lists(numbers, min_size=3, max_size=7).map(",".join), max_size=4).map("|".join)


def c_parse(text: str) -> tuple[FilterRule, ...] | None:
    """Return the rules that the library reads; None if it refuses."""
    ffi, lib = load()
    rules, count = ffi.new("struct usbredirfilter_rule **"), ffi.new("int *")
    if lib.usbredirfilter_string_to_rules(text.encode(), b",", b"|", rules, count):
        return None
    found = rules_of(rules[0], count[0])
    lib.usbredirfilter_free(rules[0])
    return found


def our_parse(text: str) -> tuple[FilterRule, ...] | None:
    try:
        return parse_rules(text)
    except ValueError:
        return None


@given(text=texts | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30))
def test_texts_are_read_alike(text: str) -> None:
    assert our_parse(text) == c_parse(text)


@given(rules=st.lists(strategies.filter_rules).map(tuple))
def test_rules_are_written_alike(rules: tuple[FilterRule, ...]) -> None:
    ffi, lib = load()
    text = lib.usbredirfilter_rules_to_string(rule_array(rules), len(rules), b",", b"|")

    assert format_rules(rules) == ffi.string(text).decode()

    lib.usbredirfilter_free(text)
    assert c_parse(format_rules(rules)) == rules


few_classes = st.sampled_from([0x00, 0x03, 0x08, 0xEF, 0xFF])
few_ids = st.sampled_from([0x0000, 0x0951, 0xFFFF])
few_rules = st.builds(
    FilterRule,
    device_class=st.just(-1) | few_classes,
    vendor_id=st.just(-1) | few_ids,
    product_id=st.just(-1) | few_ids,
    device_version_bcd=st.just(-1) | few_ids,
    allow=st.booleans(),
)
few_interfaces = st.builds(
    UsbClass, base=few_classes, sub=st.sampled_from([0, 1]), protocol=st.sampled_from([0, 1])
)


@given(
    rules=st.lists(few_rules, max_size=4).map(tuple),
    device_class=few_classes,
    ids=st.builds(VendorProduct, few_ids, few_ids),
    version=few_ids,
    interfaces=st.lists(few_interfaces, max_size=4),
    default_allow=st.booleans(),
    skip_non_boot_hid=st.booleans(),
)
def test_devices_are_judged_alike(
    rules: tuple[FilterRule, ...],
    device_class: int,
    ids: VendorProduct,
    version: int,
    interfaces: list[UsbClass],
    default_allow: bool,
    skip_non_boot_hid: bool,
) -> None:
    ffi, lib = load()
    result = lib.usbredirfilter_check(
        rule_array(rules),
        len(rules),
        device_class,
        0,
        0,
        ffi.new("uint8_t[]", [each.base for each in interfaces]),
        ffi.new("uint8_t[]", [each.sub for each in interfaces]),
        ffi.new("uint8_t[]", [each.protocol for each in interfaces]),
        len(interfaces),
        ids.vendor_id,
        ids.product_id,
        version,
        (DEFAULT_ALLOW if default_allow else 0)
        | (0 if skip_non_boot_hid else DO_NOT_SKIP_NON_BOOT_HID),
    )

    assert allows(
        rules,
        device_class=device_class,
        ids=ids,
        device_version_bcd=version,
        interfaces=interfaces,
        default_allow=default_allow,
        skip_non_boot_hid=skip_non_boot_hid,
    ) is (result == 0)


@pytest.mark.parametrize(
    ("text", "taken_as"),
    [
        ("4294967295,-1,-1,-1,1", FilterRule()),
        ("4294967299,-1,-1,-1,1", FilterRule(3)),
        ("-4294967297,-1,-1,-1,1", FilterRule()),
        ("-1,-1,-1,-1,4294967296", FilterRule(allow=False)),
    ],
)
def test_numbers_too_large_for_an_int_it_cuts_and_we_refuse(
    text: str, taken_as: FilterRule
) -> None:
    assert c_parse(text) == (taken_as,)
    with pytest.raises(ValueError, match="filter rule"):
        parse_rules(text)
