"""Eight redirections in one agent, on a real control plane whose servers go away in turn."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.plane.outages import SHORT
from tests.support.plane.play import play
from tests.support.plane.stage import IDLE


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="vmredir-") as name:
        yield Path(name)


@pytest.mark.cluster
async def test_redirections_come_back_by_themselves_from_all_that_servers_and_nodes_go_through(
    folder: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    report = await play(folder, SHORT, IDLE, print)

    record_testsuite_property("plane", report.to_text())
    assert report.ok, report.to_text()
    assert len(report.rows) == len(SHORT)
