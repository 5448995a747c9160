"""The card and its commands; bytes from ISO/IEC 7816-3 and 7816-4."""

import functools
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.lab.devices.card import AID, MAX_COMMAND_BYTES, Card

CONTENT = bytes(range(256)) + b"the rest"
SELECT = bytes.fromhex("00 a4 04 00 08 f0766d7265646972")
READ = "00 b0"
OK = bytes.fromhex("9000")


@pytest.fixture
def card() -> Card:
    card = Card(CONTENT)
    card.reset()
    return card


def test_answer_to_reset_is_one_of_t1_with_a_right_check_byte(card: Card) -> None:
    answer = card.reset()

    assert answer[:3] == bytes.fromhex("3b 87 01")
    assert answer[3:-1] == b"vmredir"
    assert functools.reduce(operator.xor, answer[1:]) == 0


def test_application_is_selected_by_its_name(card: Card) -> None:
    assert AID.hex() == "f0766d7265646972"
    assert card.transmit(SELECT + b"\0") == bytes.fromhex("6f 0a 84 08 f0766d7265646972") + OK


@pytest.mark.parametrize(
    "select",
    [
        pytest.param(SELECT, id="no answer expected"),
        pytest.param(SELECT[:3] + b"\x0c" + SELECT[4:], id="no answer wanted"),
    ],
)
def test_select_without_an_answer_selects_as_well(card: Card, select: bytes) -> None:
    assert card.transmit(select) == OK
    assert card.transmit(bytes.fromhex("00 b0 0000 04")) == CONTENT[:4] + OK


READS = [
    pytest.param("0000 10", CONTENT[:16], "9000", id="from the start"),
    pytest.param("0010 10", CONTENT[16:32], "9000", id="from an offset"),
    pytest.param("0100 08", CONTENT[256:], "9000", id="the exact rest"),
    pytest.param("0000 00", CONTENT[:256], "9000", id="256 bytes"),
    pytest.param("0100 00", CONTENT[256:], "9000", id="as much as there is"),
    pytest.param("0100 09", CONTENT[256:], "6282", id="more than there is"),
    pytest.param("0108 01", b"", "6b00", id="behind the end"),
    pytest.param("8100 01", b"", "6a86", id="of a file that is named"),
    pytest.param("0000", b"", "6700", id="nothing"),
]


@pytest.mark.parametrize(("rest", "data", "word"), READS)
def test_file_is_read(card: Card, rest: str, data: bytes, word: str) -> None:
    card.transmit(SELECT)

    assert card.transmit(bytes.fromhex(READ + rest)) == data + bytes.fromhex(word)


REFUSALS = [
    pytest.param("00 b0 0000 10", "6986", id="read with nothing selected"),
    pytest.param("00 a4 04 00 02 f000", "6a82", id="other application"),
    pytest.param("00 a4 04 00", "6a82", id="application without a name"),
    pytest.param("00 a4 00 00 02 3f00", "6a86", id="select by file id"),
    pytest.param("00 a4 04 02 02 f000", "6a86", id="select the next one"),
    pytest.param("00 d6 0000 01 00", "6d00", id="update binary"),
    pytest.param("80 b0 0000 10", "6e00", id="class of a vendor"),
    pytest.param("00 b0 00", "6700", id="half a header"),
    pytest.param("00 a4 04 00 08 f0", "6700", id="less data than said"),
    pytest.param("00 a4 04 00 01 f0 00 00", "6700", id="two bytes behind the data"),
    pytest.param("00 a4 04 00 00 00 01 f0", "6700", id="extended length"),
]


@pytest.mark.parametrize(("apdu", "word"), REFUSALS)
def test_what_cannot_be_done_is_refused(card: Card, apdu: str, word: str) -> None:
    assert card.transmit(bytes.fromhex(apdu)) == bytes.fromhex(word)


def test_failed_select_keeps_what_was_selected(card: Card) -> None:
    card.transmit(SELECT)
    card.transmit(bytes.fromhex("00 a4 04 00 02 f000"))

    assert card.transmit(bytes.fromhex("00 b0 0000 01")) == CONTENT[:1] + OK


def test_reset_forgets_what_was_selected(card: Card) -> None:
    card.transmit(SELECT)
    card.reset()

    assert card.transmit(bytes.fromhex("00 b0 0000 01")) == bytes.fromhex("6986")


@given(apdus=st.lists(st.binary(max_size=MAX_COMMAND_BYTES + 10), max_size=5))
def test_anything_is_answered_with_a_status_word(apdus: list[bytes]) -> None:
    card = Card(CONTENT)

    for apdu in apdus:
        answer = card.transmit(apdu)
        assert 2 <= len(answer) <= 258
        assert answer[-2] >> 4 in (6, 9)
