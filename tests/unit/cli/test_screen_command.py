from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

from kubectl_vmredir.bootstrap import Options
from kubectl_vmredir.cli.commands.screen import flags
from kubectl_vmredir.cli.log import log_to
from kubectl_vmredir.cli.main import main
from kubectl_vmredir.errors import ExitCode


def test_without_a_terminal_the_help_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    status = main([])

    out, err = capsys.readouterr()
    assert status == ExitCode.USAGE
    assert out == ""
    assert err.startswith("Usage: kubectl vmredir")
    assert "slots" in err


def test_a_flag_of_the_screen_is_none_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--read-only", "devices"]) == ExitCode.USAGE

    assert "--read-only goes behind devices" in capsys.readouterr().err


def test_a_command_line_gets_the_flags_that_make_it_mean_the_same() -> None:
    options = Options(
        context="prod", impersonate_user="bob", impersonate_groups=("a", "b"), virtual=True
    )

    assert flags(options) == (
        "--context", "prod", "--as", "bob", "--as-group", "a", "--as-group", "b", "--virtual",
    )  # fmt: skip
    assert flags(Options()) == ()


def test_a_token_is_never_in_a_command_line() -> None:
    assert "secret" not in " ".join(flags(Options(token="secret")))


def test_the_log_of_the_screen_is_in_a_file_that_nobody_else_may_read(tmp_path: Path) -> None:
    path = tmp_path / "state" / "vmredir.log"
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        log_to(path)
        logging.getLogger("kubectl_vmredir").warning("strange: %s", "\udce9")
        for handler in root.handlers:
            handler.close()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)

    assert "strange: " in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
