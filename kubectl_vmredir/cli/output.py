"""Everything that goes to stdout: tables as kubectl writes them, JSON, YAML, names."""

from __future__ import annotations

import json
import os
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TextIO, TypeVar

import click

from kubectl_vmredir.model import JsonValue, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

API_VERSION: Final = "vmredir.io/v1alpha1"
_GAP: Final = 3

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Column(Generic[Item]):
    """A column of a table.

    Attributes:
        title: Upper case, as kubectl's.
        text: What a row shows in it; untrusted text is made safe when it is printed.
        wide: Whether only ``-o wide`` shows it.
        width: How many characters it is wide at least: rows that come later need no more.
    """

    title: str
    text: Callable[[Item], str]
    wide: bool = False
    width: int = 0


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """How a kind of thing is printed.

    Attributes:
        kind: ``kind`` of the JSON list.
        columns: Columns of the table.
        name: What ``-o name`` prints.
        empty: Sentence for stderr when there is nothing.
        json: What JSON and YAML show of an item.
    """

    kind: str
    columns: tuple[Column[Item], ...]
    name: Callable[[Item], str]
    empty: str
    json: Callable[[Item], JsonValue] = to_json

    def print(self, items: Sequence[Item], output: str | None, *, headers: bool = True) -> None:
        """Print the items in the format asked for."""
        match output:
            case "name":
                self._print_names(items)
            case "json" | "yaml":
                document(
                    {
                        "apiVersion": API_VERSION,
                        "kind": self.kind,
                        "items": [self.json(item) for item in items],
                    },
                    output,
                )
            case _ if not items:
                click.echo(self.empty, err=True)
            case _:
                self.follow(output, headers=headers)(items)

    def follow(
        self, output: str | None, *, headers: bool = True
    ) -> Callable[[Sequence[Item]], None]:
        """Return what prints items as they come, each by itself: JSON is one object a line."""
        match output:
            case "json":
                return self._print_json
            case "yaml":
                return self._print_yaml
            case "name":
                return self._print_names
            case _:
                columns = [column for column in self.columns if output == "wide" or not column.wide]
                return _Table(columns, headers=headers).print

    def _print_names(self, items: Sequence[Item]) -> None:
        for item in items:
            click.echo(printable(self.name(item)))

    def _print_json(self, items: Sequence[Item]) -> None:
        for item in items:
            click.echo(_json(self.json(item)))

    def _print_yaml(self, items: Sequence[Item]) -> None:
        for item in items:
            click.echo("---")
            document(self.json(item), "yaml")


class _Table(Generic[Item]):
    """Prints rows as they come, as far as may be below each other."""

    def __init__(self, columns: Sequence[Column[Item]], *, headers: bool) -> None:
        self._columns = columns
        self._titles = [[column.title for column in columns]] if headers else []
        self._widths = [column.width + _GAP if column.width else 0 for column in columns]

    def print(self, items: Sequence[Item]) -> None:
        """Print rows, the first ones below the titles."""
        rows = [
            [printable(column.text(item)) or "<none>" for column in self._columns] for item in items
        ]
        if rows:
            rows, self._titles = [*self._titles, *rows], []
        for row in rows:
            self._widths = [
                max(width, len(cell) + _GAP) for width, cell in zip(self._widths, row, strict=True)
            ]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, self._widths, strict=True))
            click.echo("".join(cells).rstrip())


def document(value: JsonValue, output: str) -> None:
    """Print one JSON or YAML document."""
    if output == "yaml":
        import yaml

        text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
        if not _harmless(text):
            text = yaml.safe_dump(value, sort_keys=False)
        click.echo(text, nl=False)
    else:
        click.echo(_json(value, indent=2))


def _json(value: JsonValue, indent: int | None = None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text if _harmless(text) else json.dumps(value, indent=indent)


def _harmless(text: str) -> bool:
    """Return whether a terminal may see a document; if not, only ASCII is printed as it is."""
    return all(char == "\n" or unicodedata.category(char)[0] != "C" for char in text)


def printable(text: str) -> str:
    """Return text of a device or the cluster without anything that a terminal would obey."""
    return "".join(
        char if unicodedata.category(char)[0] != "C" else repr(char)[1:-1] for char in text
    )


def abandon(stream: TextIO) -> None:
    """Have all that is written to stdout or stderr go nowhere: whoever read it is gone."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
