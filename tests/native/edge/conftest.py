"""The edge, compiled for this machine with address and undefined behaviour sanitizers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.edges import EdgeBed, compile_edge


@pytest.fixture(scope="session")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_edge(tmp_path_factory.mktemp("edge") / "edge", sanitized=True)


@pytest.fixture(scope="session")
def impatient_edge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give one whose time limits are short."""
    limits = ("-DHEARTBEAT_MS=300", "-DINTRODUCTION_MS=200", "-DIDLE_MS=200")
    return compile_edge(tmp_path_factory.mktemp("edge") / "edge", sanitized=True, flags=limits)


@pytest.fixture
def bed(edge: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EdgeBed]:
    with EdgeBed(edge) as bed:
        monkeypatch.setenv("ASAN_OPTIONS", f"log_path={bed.folder}/sanitizer")
        monkeypatch.setenv("UBSAN_OPTIONS", f"log_path={bed.folder}/sanitizer")
        yield bed
        reports = [path.read_text() for path in bed.folder.glob("sanitizer*")]
        assert reports == []


@pytest.fixture
def impatient_bed(impatient_edge: Path) -> Iterator[EdgeBed]:
    with EdgeBed(impatient_edge) as bed:
        yield bed
