from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from kubectl_vmredir.cli.main import COMMANDS, cli, main

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("module", ["click", "kubectl_vmredir.cli.commands.version"])
def test_ctrl_c_while_the_program_is_still_loaded_leaves_no_traceback(
    tmp_path: Path, module: str
) -> None:
    code = (
        "import importlib.abc, runpy, sys\n"
        "class Finder(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {module!r}: raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "runpy.run_module('kubectl_vmredir', run_name='__main__')\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, "version"], capture_output=True, text=True, cwd=ROOT
    )

    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


def test_text_of_others_in_an_error_obeys_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bind", "\x1b[31mred", "desk", "--foreground"]) == 2

    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert said.splitlines()[-1] == "hint: List devices with: kubectl vmredir devices"


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    context = click.Context(cli)

    listed = {name: cli.get_command(context, name) for name in cli.list_commands(context)}

    assert {
        name: command.get_short_help_str(100) for name, command in listed.items() if command
    } == COMMANDS
