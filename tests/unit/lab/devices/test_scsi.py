import pytest

from kubectl_vmredir.lab.devices import scsi
from kubectl_vmredir.lab.devices.medium import Memory
from kubectl_vmredir.lab.devices.scsi import (
    CDB_BYTES,
    Disk,
    Outcome,
    ReadMedium,
    Reply,
    Status,
    WriteMedium,
)

BLOCKS = 100


class BrokenMedium(Memory):
    """A medium that fails, as a worn flash chip does."""

    def read(self, offset: int, length: int) -> bytes:
        raise OSError(5, "Input/output error")

    def write(self, offset: int, data: bytes) -> None:
        raise OSError(5, "Input/output error")


class ShortMedium(Memory):
    """A medium that ends before its size."""

    def read(self, offset: int, length: int) -> bytes:
        return super().read(offset, length)[:-1]


def new_disk(medium: Memory | None = None) -> Disk:
    """Return a disk as it is after power on."""
    disk = Disk(medium or Memory(bytes(BLOCKS * 512)), product="Virtual Stick", serial="S1")
    disk.reset()
    return disk


def ready_disk(medium: Memory | None = None) -> Disk:
    """Return a disk whose unit attention was heard."""
    disk = new_disk(medium)
    assert sense(disk) == "06 28 00"
    return disk


def run(disk: Disk, cdb: str) -> Outcome:
    return disk.execute(bytes.fromhex(cdb).ljust(CDB_BYTES, b"\0"))


def sense(disk: Disk) -> str:
    """Return key, code and qualifier of REQUEST SENSE."""
    outcome = run(disk, "03 00 00 00 12")
    assert isinstance(outcome, Reply)
    assert len(outcome.data) == 18
    return f"{outcome.data[2]:02x} {outcome.data[12]:02x} {outcome.data[13]:02x}"


# Replies written out by hand from SPC-2 and SBC; 100 blocks, writable.
REPLIES = [
    pytest.param(
        "12 00 00 00 24",
        "00 80 04 02 1f 00 00 00" + b"VMREDIR Virtual Stick   1.0 ".hex(),
        id="inquiry",
    ),
    pytest.param("12 00 00 00 05", "00 80 04 02 1f", id="inquiry cut at its allocation length"),
    pytest.param("12 01 00 00 ff", "00 00 00 03 00 80 83", id="supported vital product data"),
    pytest.param("12 01 80 00 ff", "00 80 00 02" + b"S1".hex(), id="unit serial number"),
    pytest.param(
        "12 01 83 00 ff",
        "00 83 00 1e 02 01 00 1a" + b"VMREDIR Virtual Stick   S1".hex(),
        id="device identification",
    ),
    pytest.param("25", "00000063 00000200", id="read capacity"),
    pytest.param("1a 00 3f 00 c0", "17 00 00 00 08 12" + "00" * 18, id="mode sense 6, all pages"),
    pytest.param("1a 08 08 00 04", "17 00 00 00", id="mode sense 6, header only"),
    pytest.param("1a 00 48 00 c0", "17 00 00 00 08 12" + "00" * 18, id="what may be changed"),
    pytest.param(
        "5a 00 3f 00 00 00 00 00 c0",
        "001a 00 00 00 00 0000 08 12" + "00" * 18,
        id="mode sense 10, all pages",
    ),
    pytest.param("03 00 00 00 12", "70 00 00 00000000 0a" + "00" * 10, id="no sense"),
]


@pytest.mark.parametrize(("cdb", "reply"), REPLIES)
def test_reply_bytes(cdb: str, reply: str) -> None:
    assert run(ready_disk(), cdb) == Reply(bytes.fromhex(reply))


GOOD = [
    pytest.param("00", id="test unit ready"),
    pytest.param("1e 00 00 00 01", id="prevent medium removal"),
    pytest.param("1b 00 00 00 00", id="stop"),
    pytest.param("1b 00 00 00 01", id="start"),
    pytest.param("35", id="synchronize cache"),
    pytest.param("28 00 00000063 00 0000", id="read of nothing"),
    pytest.param("2a 00 00000064 00 0000", id="write of nothing, behind the last block"),
]


@pytest.mark.parametrize("cdb", GOOD)
def test_commands_without_data(cdb: str) -> None:
    disk = ready_disk()

    assert run(disk, cdb) is Status.GOOD
    assert sense(disk) == "00 00 00"


def test_read_and_write_name_their_part_of_the_medium_in_bytes() -> None:
    disk = ready_disk()

    assert run(disk, "28 00 00000003 00 0002") == ReadMedium(1536, 1024)
    assert run(disk, "2a 00 00000062 00 0002") == WriteMedium(0x62 * 512, 1024)


FAILURES = [
    pytest.param("ff", "05 20 00", id="unknown command"),
    pytest.param("a0 00 00 00 00 00 00 00 00 10", "05 20 00", id="report luns"),
    pytest.param("28 00 00000063 00 0002", "05 21 00", id="read past the end"),
    pytest.param("28 00 ffffffff 00 0001", "05 21 00", id="read far past the end"),
    pytest.param("2a 00 00000064 00 0001", "05 21 00", id="write past the end"),
    pytest.param("12 01 b0 00 ff", "05 24 00", id="vital product data that we have not"),
    pytest.param("12 00 80 00 ff", "05 24 00", id="page code without EVPD"),
    pytest.param("1a 00 01 00 c0", "05 24 00", id="mode page that we have not"),
    pytest.param("1a 00 08 01 c0", "05 24 00", id="mode subpage that we have not"),
    pytest.param("1a 00 ff 00 c0", "05 39 00", id="saved mode pages"),
    pytest.param("5a 00 c8 00 00 00 00 00 c0", "05 39 00", id="saved mode page, mode sense 10"),
    pytest.param("03 01 00 00 12", "05 24 00", id="sense data in descriptor format"),
]


@pytest.mark.parametrize(("cdb", "why"), FAILURES)
def test_failures_say_why(cdb: str, why: str) -> None:
    disk = ready_disk()

    assert run(disk, cdb) is Status.CHECK_CONDITION
    assert sense(disk) == why


def test_sense_data_is_told_once() -> None:
    disk = ready_disk()
    run(disk, "ff")

    assert sense(disk) == "05 20 00"
    assert sense(disk) == "00 00 00"


def test_sense_data_is_gone_with_the_next_command() -> None:
    disk = ready_disk()
    run(disk, "ff")
    run(disk, "00")

    assert sense(disk) == "00 00 00"


def test_first_command_after_power_on_meets_a_unit_attention() -> None:
    disk = new_disk()

    assert isinstance(run(disk, "12 00 00 00 24"), Reply)
    assert run(disk, "00") is Status.CHECK_CONDITION
    assert sense(disk) == "06 28 00"
    assert run(disk, "00") is Status.GOOD


def test_request_sense_takes_a_unit_attention_away() -> None:
    disk = new_disk()

    assert sense(disk) == "06 28 00"
    assert run(disk, "00") is Status.GOOD


def test_write_protected_medium_says_so_and_refuses_writes() -> None:
    disk = ready_disk(Memory(bytes(512), read_only=True))

    assert run(disk, "1a 00 3f 00 04") == Reply(bytes.fromhex("17 00 80 00"))
    assert run(disk, "5a 00 3f 00 00 00 00 00 08") == Reply(bytes.fromhex("001a 00 80 00000000"))
    assert run(disk, "28 00 00000000 00 0001") == ReadMedium(0, 512)
    assert run(disk, "2a 00 00000000 00 0001") is Status.CHECK_CONDITION
    assert sense(disk) == "07 27 00"


def test_ejected_medium_is_not_present_until_it_is_loaded() -> None:
    disk = ready_disk()

    assert run(disk, "1b 00 00 00 02") is Status.GOOD
    for cdb in ("00", "25", "28 00 00000000 00 0001", "2a 00 00000000 00 0001", "35"):
        assert run(disk, cdb) is Status.CHECK_CONDITION
        assert sense(disk) == "02 3a 00"
    assert run(disk, "1b 00 00 00 03") is Status.GOOD
    assert run(disk, "00") is Status.CHECK_CONDITION
    assert sense(disk) == "06 28 00"
    assert run(disk, "00") is Status.GOOD


def test_removal_can_be_prevented() -> None:
    disk = ready_disk()
    run(disk, "1e 00 00 00 01")

    assert run(disk, "1b 00 00 00 02") is Status.CHECK_CONDITION
    assert sense(disk) == "05 53 02"
    assert run(disk, "00") is Status.GOOD
    run(disk, "1e 00 00 00 00")
    assert run(disk, "1b 00 00 00 02") is Status.GOOD


def test_reset_loads_the_medium_and_allows_removal() -> None:
    disk = ready_disk()
    run(disk, "1b 00 00 00 02")
    run(disk, "1e 00 00 00 01")

    disk.reset()

    assert sense(disk) == "06 28 00"
    assert run(disk, "00") is Status.GOOD
    assert run(disk, "1b 00 00 00 02") is Status.GOOD


def test_data_goes_to_the_medium_and_comes_back() -> None:
    disk = ready_disk()

    assert disk.write(512, b"x" * 512)
    assert disk.read(511, 3) == b"\0xx"


@pytest.mark.parametrize("medium", [BrokenMedium(bytes(512)), ShortMedium(bytes(512))])
def test_medium_that_cannot_be_read_makes_sense_data(medium: Memory) -> None:
    disk = ready_disk(medium)

    assert disk.read(0, 512) is None
    assert sense(disk) == "03 11 00"


def test_medium_that_cannot_be_written_makes_sense_data() -> None:
    disk = ready_disk(BrokenMedium(bytes(512)))

    assert not disk.write(0, bytes(512))
    assert sense(disk) == "03 0c 00"


def test_texts_that_are_no_ascii_do_not_break_identification() -> None:
    disk = Disk(Memory(bytes(512)), product="Stick mit Überlänge", serial="ß" * 200)

    outcome = run(disk, "12 01 83 00 ff")

    assert isinstance(outcome, Reply)
    assert outcome.data[7] == len(outcome.data) - 8 == 8 + 16 + 64
    assert scsi.NO_SENSE.encode()[0] == 0x70
