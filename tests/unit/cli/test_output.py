"""Tables, JSON, YAML and names on stdout."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest
import yaml

from kubectl_vmredir.cli.output import API_VERSION, Column, Listing, printable


@dataclass(frozen=True)
class Thing:
    name: str
    size: int


LISTING: Listing[Thing] = Listing(
    kind="ThingList",
    columns=(
        Column("NAME", lambda thing: thing.name),
        Column("SIZE", lambda thing: str(thing.size), wide=True),
    ),
    name=lambda thing: f"thing/{thing.name}",
    empty="No things.",
)
THINGS = [Thing("a", 1), Thing("long-one", 20)]


def test_table_has_columns_as_kubectl_writes_them(capsys: pytest.CaptureFixture[str]) -> None:
    LISTING.print(THINGS, "wide")

    assert capsys.readouterr().out == "NAME       SIZE\na          1\nlong-one   20\n"


def test_wide_columns_are_left_out_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    LISTING.print(THINGS, None, headers=False)

    assert capsys.readouterr().out == "a\nlong-one\n"


def test_column_of_a_certain_width_does_not_move_when_a_longer_text_comes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    listing: Listing[Thing] = replace(
        LISTING, columns=(replace(LISTING.columns[0], width=8), Column("END", lambda _: "x"))
    )
    show = listing.follow(None)

    for thing in THINGS:
        show([thing])

    assert {
        line.index(end)
        for line, end in zip(capsys.readouterr().out.splitlines(), ("END", "x", "x"), strict=True)
    } == {11}


def test_nothing_is_said_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    LISTING.print([], None)

    out, err = capsys.readouterr()
    assert (out, err) == ("", "No things.\n")


def test_json_of_nothing_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    LISTING.print([], "json")

    assert json.loads(capsys.readouterr().out)["items"] == []


def test_json_and_yaml_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    LISTING.print(THINGS, "json")
    as_json = json.loads(capsys.readouterr().out)
    LISTING.print(THINGS, "yaml")
    as_yaml = yaml.safe_load(capsys.readouterr().out)

    assert as_json == as_yaml
    assert as_json == {
        "apiVersion": API_VERSION,
        "kind": "ThingList",
        "items": [{"name": "a", "size": 1}, {"name": "long-one", "size": 20}],
    }


def test_names_are_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    LISTING.print(THINGS, "name")

    assert capsys.readouterr().out == "thing/a\nthing/long-one\n"


def test_rows_that_come_later_stand_below_the_first_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = LISTING.follow("wide")

    show([Thing("long-one", 20)])
    show([])
    show([Thing("a", 1), Thing("the-longest", 3)])
    show([Thing("b", 2)])

    assert capsys.readouterr().out.splitlines() == [
        "NAME       SIZE",
        "long-one   20",
        "a             1",
        "the-longest   3",
        "b             2",
    ]


def test_titles_come_with_the_first_row(capsys: pytest.CaptureFixture[str]) -> None:
    show = LISTING.follow(None)
    show([])
    assert capsys.readouterr().out == ""

    show(THINGS)

    assert capsys.readouterr().out == "NAME\na\nlong-one\n"


def test_items_that_come_one_by_one_are_a_line_of_json_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = LISTING.follow("json")

    for thing in THINGS:
        show([thing])

    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"name": "a", "size": 1},
        {"name": "long-one", "size": 20},
    ]


def test_items_that_come_one_by_one_are_a_yaml_document_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show = LISTING.follow("yaml")

    for thing in THINGS:
        show([thing])

    assert list(yaml.safe_load_all(capsys.readouterr().out)) == [
        {"name": "a", "size": 1},
        {"name": "long-one", "size": 20},
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines", "two\\nlines"),
        ("rtl\u202eoverride", "rtl\\u202eoverride"),
        ("münchen", "münchen"),
    ],
)
def test_untrusted_text_cannot_command_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("output", ["json", "yaml"])
@pytest.mark.parametrize("char", ["\x1b", "\x7f", "\x85", "\x9b", "\u202e", "\U000e0041"])
def test_untrusted_text_in_a_document_cannot_command_the_terminal(
    capsys: pytest.CaptureFixture[str], output: str, char: str
) -> None:
    LISTING.print([Thing(f"münchen{char}", 1)], output)

    out = capsys.readouterr().out
    assert char not in out
    read = json.loads(out) if output == "json" else yaml.safe_load(out)
    assert read["items"][0]["name"] == f"münchen{char}"


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_text_of_a_document_is_readable(capsys: pytest.CaptureFixture[str], output: str) -> None:
    LISTING.print([Thing("münchen", 1)], output)

    assert "münchen" in capsys.readouterr().out
