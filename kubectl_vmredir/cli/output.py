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
    """

    title: str
    text: Callable[[Item], str]
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    """How a kind of thing is printed.

    Attributes:
        kind: ``kind`` of the JSON list.
        columns: Columns of the table.
        name: What ``-o name`` prints.
        empty: Sentence for stderr when there is nothing.
    """

    kind: str
    columns: tuple[Column[Item], ...]
    name: Callable[[Item], str]
    empty: str

    def print(self, items: Sequence[Item], output: str | None, *, headers: bool = True) -> None:
        """Print the items in the format asked for."""
        match output:
            case "json" | "yaml":
                document(
                    {
                        "apiVersion": API_VERSION,
                        "kind": self.kind,
                        "items": [to_json(item) for item in items],
                    },
                    output,
                )
            case "name":
                for item in items:
                    click.echo(printable(self.name(item)))
            case _ if not items:
                click.echo(self.empty, err=True)
            case _:
                self._table(items, wide=output == "wide", headers=headers)

    def _table(self, items: Sequence[Item], *, wide: bool, headers: bool) -> None:
        columns = [column for column in self.columns if wide or not column.wide]
        rows = [[printable(column.text(item)) or "<none>" for column in columns] for item in items]
        if headers:
            rows.insert(0, [column.title for column in columns])
        widths = [max(map(len, cells)) + _GAP for cells in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("".join(cells).rstrip())


def document(value: JsonValue, output: str) -> None:
    """Print one JSON or YAML document."""
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def printable(text: str) -> str:
    """Return text of a device or the cluster without anything that a terminal would obey."""
    return "".join(
        char if unicodedata.category(char)[0] != "C" else repr(char)[1:-1] for char in text
    )


def abandon(stream: TextIO) -> None:
    """Have all that is written to stdout or stderr go nowhere: whoever read it is gone."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
