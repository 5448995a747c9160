from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.model import UsbClass, VendorProduct
from kubectl_vmredir.protocol.filter import ANY, FilterRule, allows, format_rules, parse_rules
from tests.support import protocol_strategies as strategies

STICK = VendorProduct(0x0951, 0x1666)
STORAGE = UsbClass(0x08, 0x06, 0x50)
KEYBOARD = UsbClass(0x03, 0x01, 0x01)
BUTTONS = UsbClass(0x03, 0x00, 0x00)
AUDIO = UsbClass(0x01, 0x01, 0x00)

ALLOW_ALL = FilterRule()
NO_HID = FilterRule(0x03, allow=False)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("", ()),
        ("-1,-1,-1,-1,1", (ALLOW_ALL,)),
        ("0x03,-1,-1,-1,0|-1,-1,-1,-1,1", (NO_HID, ALLOW_ALL)),
        ("8,0x0951,5734,0x0110,1", (FilterRule(8, 0x951, 0x1666, 0x110),)),
        ("010, 0X951,\t+7,-1,0", (FilterRule(8, 0x951, 7, allow=False),)),
        ("-1,-1,-1,-1,-5", (ALLOW_ALL,)),
        ("|-1,,-1,-1,,-1,1,||", (ALLOW_ALL,)),
    ],
    ids=["empty", "all", "two", "numbers", "bases-and-blanks", "any-non-zero", "separators"],
)
def test_filter_texts(text: str, rules: tuple[FilterRule, ...]) -> None:
    assert parse_rules(text) == rules


@pytest.mark.parametrize(
    "text",
    [
        "-1,-1,-1,-1",
        "-1,-1,-1,-1,1,1",
        ",",
        "-1,-1,-1,-1,yes",
        "-1,-1,-1,-1,1 ",
        "0x,-1,-1,-1,1",
        "09,-1,-1,-1,1",
        "- 1,-1,-1,-1,1",
        "\u0663,-1,-1,-1,1",
        "256,-1,-1,-1,1",
        "-2,-1,-1,-1,1",
        "-1,65536,-1,-1,1",
        "-1,-1,-2,-1,1",
        "-1,-1,-1,0x10000,1",
    ],
)
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"filter rule|expected class"):
        parse_rules(text)


@pytest.mark.parametrize("number", ["4294967295", "2147483648", "-2147483648", "9" * 5000])
def test_number_that_the_c_code_would_cut_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match=r"filter rule|integer string"):
        parse_rules(f"{number},-1,-1,-1,1")
    with pytest.raises(ValueError, match=r"filter rule|integer string"):
        parse_rules(f"-1,-1,-1,-1,{number}")


def test_rules_are_written_as_the_c_library_writes_them() -> None:
    rules = [NO_HID, FilterRule(0x0E, 0x46D, 0x8, 0x9), ALLOW_ALL]

    assert format_rules(rules) == "0x03,-1,-1,-1,0|0x0e,0x046d,0x0008,0x0009,1|-1,-1,-1,-1,1"


@pytest.mark.parametrize("value", [-2, 0x10000])
def test_rule_out_of_range_cannot_be_made(value: int) -> None:
    with pytest.raises(ValueError, match=f"device class {value}"):
        FilterRule(device_class=value)
    with pytest.raises(ValueError, match=f"number {value}"):
        FilterRule(vendor_id=value)
    with pytest.raises(ValueError, match=f"number {value}"):
        FilterRule(product_id=value)
    with pytest.raises(ValueError, match=f"number {value}"):
        FilterRule(device_version_bcd=value)


@given(rules=st.lists(strategies.filter_rules).map(tuple))
def test_round_trip(rules: tuple[FilterRule, ...]) -> None:
    assert parse_rules(format_rules(rules)) == rules


@given(text=st.text(st.sampled_from("0123456789abcxX+-,| \t")) | st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        rules = parse_rules(text)

        assert parse_rules(format_rules(rules)) == rules


def lets_in(*rules: FilterRule, device_class: int = 0, interfaces: list[UsbClass]) -> bool:
    return allows(
        rules,
        device_class=device_class,
        ids=STICK,
        device_version_bcd=0x0110,
        interfaces=interfaces,
    )


def test_device_that_no_rule_matches_is_not_let_in() -> None:
    assert not lets_in(interfaces=[STORAGE])
    assert not lets_in(NO_HID, interfaces=[STORAGE])
    assert allows(
        [NO_HID],
        device_class=0,
        ids=STICK,
        device_version_bcd=0,
        interfaces=[STORAGE],
        default_allow=True,
    )


def test_first_rule_that_matches_decides() -> None:
    assert not lets_in(NO_HID, ALLOW_ALL, interfaces=[KEYBOARD])
    assert lets_in(ALLOW_ALL, NO_HID, interfaces=[KEYBOARD])


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (FilterRule(8), True),
        (FilterRule(9), False),
        (FilterRule(vendor_id=0x951), True),
        (FilterRule(vendor_id=0x952), False),
        (FilterRule(product_id=0x1666), True),
        (FilterRule(product_id=0x1667), False),
        (FilterRule(device_version_bcd=0x110), True),
        (FilterRule(device_version_bcd=0x111), False),
        (FilterRule(8, 0x951, 0x1666, 0x110), True),
    ],
)
def test_all_fields_of_a_rule_must_match(rule: FilterRule, matches: bool) -> None:
    assert lets_in(rule, interfaces=[STORAGE]) is matches


def test_every_interface_must_be_let_in() -> None:
    assert not lets_in(NO_HID, ALLOW_ALL, interfaces=[STORAGE, KEYBOARD])
    assert lets_in(NO_HID, ALLOW_ALL, interfaces=[STORAGE, AUDIO])


@pytest.mark.parametrize(("device_class", "asked"), [(0x00, False), (0xEF, False), (0xFF, True)])
def test_class_of_the_device_counts_where_it_says_one(device_class: int, asked: bool) -> None:
    no_such_class = FilterRule(device_class, allow=False)

    allowed = lets_in(no_such_class, ALLOW_ALL, device_class=device_class, interfaces=[STORAGE])

    assert allowed is not asked


def test_buttons_of_a_headset_are_not_asked_about() -> None:
    assert lets_in(NO_HID, ALLOW_ALL, interfaces=[AUDIO, BUTTONS])
    assert not lets_in(NO_HID, ALLOW_ALL, interfaces=[BUTTONS])
    assert not lets_in(NO_HID, ALLOW_ALL, interfaces=[BUTTONS, BUTTONS])
    assert not allows(
        [NO_HID, ALLOW_ALL],
        device_class=0,
        ids=STICK,
        device_version_bcd=0,
        interfaces=[AUDIO, BUTTONS],
        skip_non_boot_hid=False,
    )


def test_any_is_what_the_text_writes_as_minus_one() -> None:
    assert ANY == -1
    assert str(FilterRule(ANY, ANY, ANY, ANY, True)) == "-1,-1,-1,-1,1"
