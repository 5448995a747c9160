"""``kubectl vmredir demo``: the main job at work, on a lab of its own."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kubectl_vmredir.bootstrap import story_loop, tell_story
from kubectl_vmredir.cli.output import document
from kubectl_vmredir.cli.run import until_signal, unwrapped
from kubectl_vmredir.errors import ExitCode, UsageError
from kubectl_vmredir.model import to_json

if TYPE_CHECKING:
    from kubectl_vmredir.lab.story import Report


@click.command(short_help="Show a USB stick in a VM that moves.")
@click.option(
    "--headless",
    is_flag=True,
    help="A story and a report, and no terminal UI; so it is where there is no terminal.",
)
@click.option("--chaos", is_flag=True, help="On the terminal: a VM moves every 30 s.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "sim", "qemu"]),
    default="auto",
    show_default=True,
    help="What the guest is: simulated, or a Linux kernel in QEMU. auto takes QEMU if it can.",
)
@click.option(
    "--migrations",
    type=click.IntRange(0, 10_000),
    default=3,
    show_default=True,
    metavar="N",
    help="How often the VM moves in the story.",
)
@click.option("-o", "--output", type=click.Choice(["json"]), help="How to print the report.")
def command(headless: bool, chaos: bool, backend: str, migrations: int, output: str | None) -> int:
    """Open the program on a lab of its own, with VMs to move and virtual devices to plug in.

    Headless: put a USB stick into a VM that moves, and check what the guest reads of it.

    Needs no cluster and no USB device, and never looks at your kubeconfig.
    """
    if not (headless or output) and sys.stdin.isatty() and sys.stdout.isatty():
        from kubectl_vmredir.cli.demo_screen import show_demo  # imports Textual

        return show_demo(backend=backend, chaos=chaos)
    if chaos:
        raise UsageError("--chaos is for the terminal UI", hint="Use --migrations N instead.")
    # A person sees the story; a script gets the report alone.
    watched = sys.stderr is not None and sys.stderr.isatty()

    def say(sentence: str) -> None:
        if watched:
            click.echo(sentence, err=True)

    with tempfile.TemporaryDirectory(prefix="vmredir-demo-") as folder:
        report = unwrapped(
            lambda: until_signal(
                tell_story(Path(folder), backend=backend, migrations=migrations, say=say),
                loop_factory=story_loop(backend),
            )
        )
    if output:
        document(to_json(report), output)
    else:
        _print(report)
    return ExitCode.OK if report.ok else ExitCode.FAILURE


def _print(report: Report) -> None:
    guest = "a Linux kernel in real QEMU"
    if report.backend == "sim":
        guest = f"simulated, without QEMU; its time runs {report.clock_speed} times as fast"
    lines = [
        ("guest", guest),
        ("migrations", str(len(report.migrations))),
        ("link gap", _span([move.link_gap_ms for move in report.migrations])),
        ("guest gap", _span([move.guest_gap_ms for move in report.migrations])),
        ("whole reads", f"{len(report.sha256_guest)}, {_wrong(report)} wrong"),
        ("bytes served", f"{report.bytes_served:,}"),
        ("unplugs seen", f"{report.guest_disconnects} by the guest"),
        ("read errors", f"{report.io_errors_after_handover} after the stick was back"),
    ]
    for name, value in lines:
        click.echo(f"{name:<14}{value}")
    click.echo("ok: true" if report.ok else "ok: false")


def _span(values: list[float]) -> str:
    if not values:
        return "none"
    return f"{min(values):.0f} to {max(values):.0f} ms"


def _wrong(report: Report) -> int:
    return sum(found != report.sha256_expected for found in report.sha256_guest)
