from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.content import Content

from kubectl_vmredir.tui.drawing import Column, byte_count, line, plain, printable, sparkline

COLUMNS = (Column("NAME"), Column("ID", 4, from_width=20), Column("STATE", 6))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (812, "812 B"), (1536, "1.5 KiB"), (23 * 1024**2, "23 MiB"), (5e15, "4547 TiB")],
)
def test_bytes_are_counted_in_units_for_people(count: float, text: str) -> None:
    assert byte_count(count) == text


def test_a_sparkline_is_as_high_as_its_highest_value() -> None:
    assert sparkline([0, 1, 2, 4], 4) == "▁▃▅█"


def test_a_sparkline_shows_the_latest_values_at_the_right() -> None:
    assert sparkline([9, 0, 7], 2) == "▁█"
    assert sparkline([7], 3) == "▁▁█"
    assert sparkline([], 3) == "▁▁▁"


def test_a_line_leaves_out_columns_that_have_no_room() -> None:
    cells = [Content("stick"), Content("0951"), Content("free")]

    assert line(COLUMNS, cells, 24).plain == "stick        0951 free  "
    assert line(COLUMNS, cells, 16).plain == "stick     free  "


def test_a_line_cuts_what_does_not_fit_its_column() -> None:
    cells = [Content("a very long name"), Content("0951"), Content("free")]

    assert line(COLUMNS, cells, 16).plain == "a very l… free  "


def test_columns_without_a_width_share_what_is_left() -> None:
    columns = (Column("A"), Column("B", 3), Column("C"))

    assert line(columns, [Content("a"), Content("b"), Content("c")], 13).plain == "a    b   c   "


def test_a_column_with_a_larger_share_gets_more_of_what_is_left() -> None:
    columns = (Column("A"), Column("B", share=3))

    assert line(columns, [Content("a"), Content("b")], 9).plain == "a  b     "


@given(text=st.text(), width=st.integers(3, 60))
def test_a_line_is_as_wide_as_asked_whatever_a_device_calls_itself(text: str, width: int) -> None:
    drawn = line(COLUMNS, [plain(text), Content("0951"), Content("free")], width)

    assert drawn.cell_length == width


@given(text=st.text())
def test_untrusted_text_stays_on_its_line_and_is_no_markup(text: str) -> None:
    content = plain(f"[bold]{text}")

    assert content.plain.startswith("[bold]")
    assert content.spans == []
    assert len(content.plain.splitlines()) == 1
    assert not any(unicodedata.category(char)[0] == "C" for char in content.plain)


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    assert printable("a\x1b[2J\n\u202eb") == "a\\x1b[2J\\n\\u202eb"
