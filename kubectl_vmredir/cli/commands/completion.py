"""``kubectl vmredir completion``: what has kubectl complete our words."""

from __future__ import annotations

import os
from pathlib import Path

import click

from kubectl_vmredir.cli.completing import FILE, SCRIPT
from kubectl_vmredir.errors import VmRedirError


@click.command(short_help="Have the tab key complete our words.")
@click.option("--install", is_flag=True, help="Write it where kubectl finds it, not to stdout.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("~/.local/bin"),
    show_default=True,
    help="A folder of your PATH, to install it in.",
)
def command(install: bool, folder: Path) -> None:
    """Print the program that kubectl, since 1.26, runs to complete the words behind "vmredir".

    It must be on your PATH under the name kubectl_complete-vmredir; --install puts it there. The
    tab key works where kubectl's own completion does: kubectl completion --help
    """
    if not install:
        click.echo(SCRIPT, nl=False)
        return
    folder = folder.expanduser()
    file = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(SCRIPT, encoding="utf-8")
        file.chmod(0o755)
    except OSError as exc:
        raise VmRedirError(f"cannot write {file}: {exc.strerror}") from exc
    click.echo(f"{file} is written", err=True)
    if str(folder) not in os.environ.get("PATH", "").split(os.pathsep):
        click.echo(f"warning: {folder} is not on your PATH: kubectl does not find it", err=True)
