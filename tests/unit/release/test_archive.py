"""The archive: the same files make the same one, and it holds no link."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from release.archive import pack

EPOCH = 1_700_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program, a text, a link to it, and one to a folder."""
    folder = tmp_path / "made" / "thing"
    (folder / "sub").mkdir(parents=True)
    (folder / "program").write_text("#!/bin/sh\n")
    (folder / "program").chmod(0o700)
    (folder / "sub" / "text").write_text("words")
    (folder / "text").symlink_to("sub/text")
    (folder / "same").symlink_to("text")
    return folder


def test_links_become_what_they_lead_to(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "a.tar.gz", epoch=EPOCH)

    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        entries = {entry.name: entry for entry in tar.getmembers()}
        same = tar.extractfile("thing/same")
        assert same is not None
        assert same.read() == b"words"
    assert sorted(entries) == [
        "thing", "thing/program", "thing/same", "thing/sub", "thing/sub/text", "thing/text",
    ]  # fmt: skip
    assert {entry.type for entry in entries.values()} == {tarfile.REGTYPE, tarfile.DIRTYPE}
    assert (entries["thing/program"].mode, entries["thing/text"].mode) == (0o755, 0o644)


def test_neither_time_nor_owner_nor_place_is_seen(folder: Path, tmp_path: Path) -> None:
    pack(folder, tmp_path / "a.tar.gz", epoch=EPOCH)
    moved = tmp_path / "elsewhere" / "thing"
    moved.parent.mkdir()
    folder.rename(moved)
    (moved / "program").touch()

    pack(moved, tmp_path / "b.tar.gz", epoch=EPOCH)

    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
