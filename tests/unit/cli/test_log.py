"""What a terminal obeys is in no log, whoever has said it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kubectl_vmredir.cli.log import log_to, start_logging

UNTRUSTED = "\x1b]0;title\x07\n2026 I forged: line"
ESCAPED = r"\x1b]0;title\x07\n2026 I forged: line"


@contextmanager
def fresh_log() -> Iterator[logging.Logger]:
    """Give a logger where nothing hears yet, and leave the root as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        yield logging.getLogger("kubectl_vmredir.test")
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.mark.parametrize("level", [logging.INFO, logging.WARNING, logging.ERROR])
def test_text_of_a_device_is_escaped_on_stderr(
    level: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with fresh_log() as logger:
        start_logging(2)

        logger.log(level, "lost: %s", UNTRUSTED)

    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f": lost: {ESCAPED}") or line == f"warning: lost: {ESCAPED}"


def test_text_of_a_device_is_escaped_in_the_file(tmp_path: Path) -> None:
    with fresh_log() as logger:
        log_to(tmp_path / "log")

        logger.warning("lost: %s", UNTRUSTED)

    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.endswith(f": lost: {ESCAPED}")


def test_traceback_of_a_bug_has_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with fresh_log() as logger:
        start_logging(0)

        logger.error("bug", exc_info=ValueError("x"))

    assert capsys.readouterr().err.splitlines()[1:] == ["ValueError: x"]
