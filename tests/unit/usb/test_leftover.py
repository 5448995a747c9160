"""What a process that was killed has left claimed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kubectl_vmredir.model import VendorProduct
from kubectl_vmredir.usb.journal import Claim, FormerDriver, Journal
from kubectl_vmredir.usb.leftover import begin_to_give_back, open_left

PORT = "3-1.4"
NODE = "dev/bus/usb/003/007"
CLAIM = Claim(
    boot_id="this boot",
    port_path=PORT,
    ids=VendorProduct(0x0951, 0x1666),
    bus=3,
    address=7,
    configuration=1,
    interfaces=(FormerDriver(0, "usb-storage"),),
    pid=4242,
)
BEGIN = """
import sys
from pathlib import Path
from kubectl_vmredir.usb.leftover import begin_to_give_back

begin_to_give_back(Path(sys.argv[1]), root=Path(sys.argv[2]))
print("begun", *sorted({"asyncio", "click", "kubernetes", "pyudev"} & set(sys.modules)))
"""


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "claims", boot_id="this boot")


def left(journal: Journal, claim: Claim) -> None:
    entry = journal.lock(PORT)
    assert entry is not None
    with entry:
        entry.write(claim)


def machine_with(root: Path, *, address: int, product: str = "1666") -> None:
    for name, value in {
        f"sys/bus/usb/devices/{PORT}/idVendor": "0951",
        f"sys/bus/usb/devices/{PORT}/idProduct": product,
        f"sys/bus/usb/devices/{PORT}/busnum": "3",
        f"sys/bus/usb/devices/{PORT}/devnum": str(address),
        "proc/sys/kernel/random/boot_id": "this boot",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")


def begin(journal: Journal, root: Path) -> str:
    """Have what is left given back, to its end; return what was said by the one that began it."""
    alive, kept = os.pipe()
    with open(alive, "rb") as pipe:
        try:
            done = subprocess.run(
                [sys.executable, "-c", BEGIN, journal.folder, root],
                pass_fds=[kept],
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
        finally:
            os.close(kept)
        assert pipe.read() == b""  # comes when all who have the other end are gone
    assert done.stderr == ""
    return done.stdout


def test_device_that_was_left_is_opened(journal: Journal, tmp_path: Path) -> None:
    machine_with(tmp_path, address=7)
    node = tmp_path / NODE
    node.parent.mkdir(parents=True)
    node.touch()
    left(journal, CLAIM)
    entry = journal.lock(PORT)
    assert entry is not None
    with entry:
        found = open_left(entry, journal, tmp_path)

        assert journal.holder(PORT) == os.getpid()
    assert found is not None
    descriptor, claim = found
    assert (claim.device, claim.interfaces) == (CLAIM.device, CLAIM.interfaces)
    assert os.path.samestat(os.fstat(descriptor), node.stat())
    os.close(descriptor)


@pytest.mark.parametrize(
    ("claim", "address", "product"),
    [
        pytest.param(None, 7, "1666", id="nothing was left"),
        pytest.param(replace(CLAIM, boot_id="another"), 7, "1666", id="another boot"),
        pytest.param(CLAIM, 8, "1666", id="another device"),
        pytest.param(CLAIM, 7, "1667", id="another device with the address of the former one"),
    ],
)
def test_nothing_is_opened_where_nothing_is_to_be_given_back(
    journal: Journal, tmp_path: Path, claim: Claim | None, address: int, product: str
) -> None:
    machine_with(tmp_path, address=address, product=product)
    node = tmp_path / f"dev/bus/usb/003/{address:03}"
    node.parent.mkdir(parents=True)
    node.touch()
    if claim is not None:
        left(journal, claim)
    entry = journal.lock(PORT)
    assert entry is not None
    with entry:
        assert open_left(entry, journal, tmp_path) is None


def test_device_whose_node_is_gone_is_not_given_back(journal: Journal, tmp_path: Path) -> None:
    machine_with(tmp_path, address=7)
    left(journal, CLAIM)
    entry = journal.lock(PORT)
    assert entry is not None
    with entry:
        assert open_left(entry, journal, tmp_path) is None


def test_what_is_gone_is_struck_out_at_the_next_start(journal: Journal, tmp_path: Path) -> None:
    machine_with(tmp_path, address=8)
    left(journal, CLAIM)

    said = begin(journal, tmp_path)

    assert said == "begun\n"  # and nothing was loaded that takes long
    assert journal.ports() == []


def test_what_cannot_be_given_back_stays_written_down(journal: Journal, tmp_path: Path) -> None:
    machine_with(tmp_path, address=7)
    (tmp_path / NODE).mkdir(parents=True)  # it cannot be opened for writing
    left(journal, CLAIM)

    begin(journal, tmp_path)

    assert journal.left() == [PORT]


def test_nothing_is_said_before_the_program_is_loaded(journal: Journal, tmp_path: Path) -> None:
    left(journal, CLAIM)
    (journal.folder / f"{PORT}.json").write_text("no claim")

    assert begin(journal, tmp_path) == "begun\n"  # and nothing on stderr


def test_program_begins_also_if_no_process_can_be_had(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> int:
        raise BlockingIOError

    machine_with(tmp_path, address=7)
    left(journal, CLAIM)
    monkeypatch.setattr(os, "fork", refused)

    begin_to_give_back(journal.folder, root=tmp_path)

    assert journal.left() == [PORT]


def test_device_that_somebody_has_is_left_alone(journal: Journal, tmp_path: Path) -> None:
    machine_with(tmp_path, address=8)
    left(journal, CLAIM)
    entry = journal.lock(PORT)
    assert entry is not None
    with entry:
        begin(journal, tmp_path)

        claim = entry.read()

    assert claim == CLAIM


def test_nothing_is_made_where_there_was_never_a_claim(journal: Journal, tmp_path: Path) -> None:
    assert begin(journal, tmp_path) == "begun\n"

    assert not journal.folder.exists()
