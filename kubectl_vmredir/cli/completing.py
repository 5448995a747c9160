"""What the shell offers at the tab key: the answers of ``kubectl_complete-vmredir``.

kubectl 1.26 and later runs the program of that name with the words behind ``vmredir``, the last of
them unfinished, and reads what cobra's ``__complete`` writes: a line for each candidate, with what
it means behind a tab, then a line that says what else the shell may offer. Source: cobra, "Shell
completions" and ShellCompDirective.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import ShellComplete

from kubectl_vmredir.cli.main import PROGRAM, cli
from kubectl_vmredir.cli.output import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

NAME: Final = "__complete"
"""First argument of the program that asks it."""

FILE: Final = "kubectl_complete-vmredir"
"""What kubectl looks for on PATH."""

SCRIPT: Final = f"""\
#!/bin/sh
# Completes the words behind `kubectl vmredir`; kubectl 1.26 and later runs it.
exec kubectl-vmredir {NAME} "$@"
"""


class Directive(enum.IntFlag):
    """What the shell may do besides offering the candidates; values of cobra's."""

    FILES = 0
    NO_FILES = 4
    FOLDERS_ONLY = 16


def main(words: Sequence[str]) -> int:
    """Answer kubectl; return the exit status.

    Args:
        words: Those behind ``vmredir``; the last one is unfinished, or empty.
    """
    *whole, unfinished = words or ("",)
    items = ShellComplete(cli, {}, PROGRAM, "").get_completions(whole, unfinished)
    for item in items:
        if item.type == "plain":
            click.echo(_line(item))
    click.echo(f":{_directive(items)}")
    return 0


def _line(item: CompletionItem[str]) -> str:
    return f"{item.value}\t{printable(item.help)}" if item.help else item.value


def _directive(items: Sequence[CompletionItem[str]]) -> int:
    types = {item.type for item in items}
    if "file" in types:
        return Directive.FILES
    return Directive.FOLDERS_ONLY if "dir" in types else Directive.NO_FILES
