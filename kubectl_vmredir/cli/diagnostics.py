"""What is said on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from kubectl_vmredir.cli.output import abandon, printable

if TYPE_CHECKING:
    from kubectl_vmredir.service.interface import Trouble


def say(text: str, *, end: bool = True) -> None:
    """Write a line, which may hold untrusted text, to stderr."""
    try:
        click.echo(printable(text), err=True, nl=end)
    except OSError:
        # The terminal has hung up, or the same ctrl-c has ended what our messages are piped to.
        # That is no reason to end what waits for the gate.
        abandon(sys.stderr)


def tell_progress(text: str) -> None:
    """Write what is going on, which may hold untrusted text, to stderr if somebody reads it there.

    In a file, or on a pipe, it would be noise between errors.
    """
    if sys.stderr.isatty():
        say(text)


def tell_trouble(trouble: Trouble) -> None:
    """Write an error, and what can be done about it, to stderr."""
    tell_error(trouble.message, trouble.hint)


def tell_error(message: str, hint: str | None) -> None:
    """Write an error, and what can be done about it, to stderr."""
    say(f"error: {message}")
    if hint:
        for line in f"hint: {hint}".splitlines():
            say(line)
