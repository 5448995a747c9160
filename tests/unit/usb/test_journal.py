from __future__ import annotations

import fcntl
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kubectl_vmredir.errors import UsbError
from kubectl_vmredir.model import VendorProduct
from kubectl_vmredir.usb.journal import (
    MAX_BYTES,
    Claim,
    Entry,
    FormerDriver,
    Holding,
    Journal,
    read_boot_id,
)

PORT = "3-1.4"
CLAIM = Claim(
    boot_id="this boot",
    port_path=PORT,
    ids=VendorProduct(0x0951, 0x1666),
    bus=3,
    address=7,
    configuration=1,
    interfaces=(FormerDriver(0, "usb-storage"), FormerDriver(2, "")),
    pid=4711,
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "claims", boot_id="this boot")


def locked(journal: Journal) -> Entry:
    entry = journal.lock(PORT)
    assert entry is not None
    return entry


def test_a_claim_is_read_as_it_was_written(journal: Journal) -> None:
    with locked(journal) as entry:
        entry.write(CLAIM)

    with locked(journal) as entry:
        assert entry.read() == CLAIM
    assert CLAIM.drivers == ("usb-storage", "")


def test_only_the_user_can_read_it(journal: Journal, tmp_path: Path) -> None:
    with locked(journal) as entry:
        entry.write(CLAIM)

    assert stat.S_IMODE((tmp_path / "claims").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / f"claims/{PORT}.json").stat().st_mode) == 0o600


def ended_process() -> int:
    """Return the id of a process that is gone."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_port_is_locked_once(journal: Journal) -> None:
    with locked(journal) as entry:
        entry.write(replace(CLAIM, pid=os.getpid()))

        assert journal.lock(PORT) is None
        assert journal.lock("3-2") is not None

    locked(journal).close()


class LetsGo(Journal):
    """A journal whose port is let go of as soon as we have wondered who has it.

    Attributes:
        entry: What holds the port.
        seen: Who was seen to have it, each time.
    """

    entry: Entry
    seen: list[Holding | None]

    def holding(self, port_path: str) -> Holding | None:
        """Look, and let go."""
        found = super().holding(port_path)
        self.seen = [*getattr(self, "seen", []), found]
        self.entry.close()
        return found


def test_who_gives_a_device_back_for_another_is_waited_for(journal: Journal) -> None:
    waiting = LetsGo(journal.folder, boot_id="this boot")
    waiting.entry = locked(journal)
    waiting.entry.write(CLAIM)
    waiting.entry.sign(given_back=True)

    locked(waiting).close()

    assert waiting.seen == [Holding(os.getpid(), ending=True)]


def test_a_holder_that_is_gone_is_waited_for_until_the_kernel_has_dropped_its_lock(
    journal: Journal,
) -> None:
    waiting = LetsGo(journal.folder, boot_id="this boot")
    waiting.entry = locked(journal)
    waiting.entry.write(replace(CLAIM, pid=ended_process()))

    locked(waiting).close()

    assert [holding and holding.ending for holding in waiting.seen] == [True]


def test_a_holder_that_lives_is_not_waited_for(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "claims", boot_id="this boot", patience_s=3600)
    with locked(journal) as entry:
        entry.write(CLAIM)
        entry.sign()

        assert journal.lock(PORT) is None
        assert journal.holding(PORT) == Holding(os.getpid(), ending=False)


def test_patience_with_who_does_not_let_go_ends(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "claims", boot_id="this boot", patience_s=0.05)
    with locked(journal) as entry:
        entry.write(CLAIM)
        entry.sign(given_back=True)

        assert journal.lock(PORT) is None


def test_a_claim_of_a_former_version_does_not_say_that_it_is_given_back(journal: Journal) -> None:
    with locked(journal) as entry:
        entry.write(CLAIM)
        text = os.pread(entry.fileno(), MAX_BYTES, 0).replace(b', "given_back": false', b"")
        os.ftruncate(entry.fileno(), 0)
        os.pwrite(entry.fileno(), text, 0)

        assert b"given_back" not in text
        assert entry.read() == CLAIM


def test_who_only_looks_is_not_taken_for_a_holder(journal: Journal, tmp_path: Path) -> None:
    locked(journal).close()
    looking = os.open(tmp_path / f"claims/{PORT}.json", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)

    class LookedAt(Journal):
        """A journal at which another program looks until we wonder who has the device."""

        def holding(self, port_path: str) -> Holding | None:
            found = super().holding(port_path)
            os.close(looking)
            return found

    locked(LookedAt(journal.folder, boot_id="")).close()


def test_the_holder_is_known_while_the_lock_is_held_by_whomever(journal: Journal) -> None:
    entry = locked(journal)
    entry.write(CLAIM)
    inherited = os.dup(entry.fileno())
    entry.close()

    assert journal.holder(PORT) == 4711
    os.close(inherited)
    assert journal.holder(PORT) is None


def test_a_holder_that_has_written_nothing_yet_has_no_process_id(journal: Journal) -> None:
    with locked(journal):
        assert journal.holder(PORT) == 0


def test_nobody_holds_a_port_that_was_never_claimed(journal: Journal) -> None:
    assert journal.holder(PORT) is None
    assert journal.ports() == []


def test_who_claims_signs_with_its_own_process_id(journal: Journal) -> None:
    with locked(journal) as entry:
        entry.write(CLAIM)

        assert entry.sign() == replace(CLAIM, pid=os.getpid())
        assert journal.holder(PORT) == os.getpid()


def test_an_empty_entry_is_not_signed(journal: Journal) -> None:
    with locked(journal) as entry:
        assert entry.sign() is None
        assert entry.read() is None


def test_a_shorter_claim_leaves_nothing_of_a_longer_one(journal: Journal) -> None:
    short = replace(CLAIM, interfaces=())
    with locked(journal) as entry:
        entry.write(CLAIM)
        entry.write(short)

        assert entry.read() == short


def test_who_is_killed_while_it_writes_leaves_a_claim_that_can_be_read(journal: Journal) -> None:
    short = replace(CLAIM, interfaces=())
    with locked(journal) as entry:
        entry.write(short)
        written = os.pread(entry.fileno(), MAX_BYTES, 0)
        entry.write(CLAIM)
        os.pwrite(entry.fileno(), written, 0)

        assert entry.read() == short


def test_a_cleared_entry_is_empty_and_its_file_stays(journal: Journal, tmp_path: Path) -> None:
    with locked(journal) as entry:
        entry.write(CLAIM)
        assert journal.ports() == [PORT]
        entry.clear()

        assert entry.read() is None
    assert journal.ports() == []
    assert (tmp_path / f"claims/{PORT}.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[]",
        "{}",
        '{"boot_id": "this boot"}',
        '{"boot_id": "b", "port_path": "3-1.4", "ids": {"vendor_id": 1, "product_id": 2}, '
        '"bus": 1, "address": 1, "configuration": 1, "interfaces": [7], "pid": 1}',
        "\udcff\udcfe",
    ],
)
def test_a_file_that_says_no_claim_is_ignored(
    journal: Journal, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    with locked(journal) as entry:
        os.pwrite(entry.fileno(), content.encode(errors="surrogateescape"), 0)

        assert entry.read() is None
        assert entry.sign() is None
        entry.write(CLAIM)
        assert entry.read() == CLAIM
    assert "is ignored" in caplog.text


def test_files_of_other_names_are_none_of_ours(journal: Journal, tmp_path: Path) -> None:
    locked(journal).close()
    for name in ("notes.txt", "..json", "3-1;x.json"):
        (tmp_path / "claims" / name).write_text("text")

    assert journal.ports() == []


def test_a_link_in_the_place_of_a_file_is_not_followed(journal: Journal, tmp_path: Path) -> None:
    locked(journal).close()
    other = tmp_path / "precious"
    other.write_text("text")
    (tmp_path / f"claims/{PORT}.json").unlink()
    (tmp_path / f"claims/{PORT}.json").symlink_to(other)

    with pytest.raises(UsbError, match="cannot write down the claim"):
        journal.lock(PORT)
    assert other.read_text() == "text"


def test_a_folder_that_cannot_be_made_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UsbError, match="cannot write down the claim") as caught:
        Journal(tmp_path / "file/claims", boot_id="").lock(PORT)
    assert caught.value.hint is not None


def test_the_boot_id_is_the_kernels(tmp_path: Path) -> None:
    folder = tmp_path / "proc/sys/kernel/random"
    folder.mkdir(parents=True)
    (folder / "boot_id").write_text("abc\n")

    assert read_boot_id(tmp_path) == "abc"
    assert read_boot_id(tmp_path / "elsewhere") == ""
