"""The device end of the bulk-only transport, without a bus: halts are only noted."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.lab.devices.bulk_only import BulkOnlyTransport
from kubectl_vmredir.lab.devices.function import ACK, NAK, STALL, Answer, Handshake
from kubectl_vmredir.lab.devices.medium import Memory
from kubectl_vmredir.lab.devices.scsi import Disk
from tests.support.usb_guest import cbw, csw, read_10, write_10

IMAGE = bytes(range(256)) * 2 * 8  # 8 blocks
INQUIRY = bytes.fromhex("12 00 00 00 24 00")
TEST_UNIT_READY = bytes(6)
PASSED, FAILED, PHASE_ERROR = 0, 1, 2


class FailingMemory(Memory):
    """Fails from a given byte on."""

    def __init__(self, image: bytes, *, fails_at: int) -> None:
        super().__init__(image)
        self._fails_at = fails_at

    def read(self, offset: int, length: int) -> bytes:
        if offset + length > self._fails_at:
            raise OSError(5, "Input/output error")
        return super().read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        if offset + len(data) > self._fails_at:
            raise OSError(5, "Input/output error")
        super().write(offset, data)


class Bench:
    """A transport whose halts can be seen, past the first unit attention."""

    def __init__(self, medium: Memory | None = None) -> None:
        self.halted: set[str] = set()
        self.medium = medium or Memory(IMAGE)
        disk = Disk(self.medium, product="Virtual Stick", serial="S1")
        disk.reset()
        disk.execute(bytes(16))
        self.transport = BulkOnlyTransport(
            disk,
            packet_bytes=512,
            halt_in=lambda: self.halted.add("in"),
            halt_out=lambda: self.halted.add("out"),
        )

    def command(self, cdb: bytes, length: int = 0, *, to_host: bool = True) -> None:
        assert self.transport.data_out(cbw(cdb, length, to_host=to_host)) == ACK

    def status(self) -> bytes:
        """Clear the halts and read the CSW, as the host does."""
        self.halted.clear()
        answer = self.transport.data_in(13)
        assert answer.handshake is Handshake.ACK
        return answer.data


def test_command_without_data() -> None:
    bench = Bench()

    bench.command(TEST_UNIT_READY)

    assert bench.status() == csw(PASSED)
    assert not bench.halted


def test_tag_of_the_command_comes_back_in_its_status() -> None:
    bench = Bench()

    bench.transport.data_out(cbw(TEST_UNIT_READY, tag=0xCAFE))

    assert bench.status() == csw(PASSED, tag=0xCAFE)


def test_read_in_one_transfer() -> None:
    bench = Bench()

    bench.command(read_10(1, 2), 1024)

    assert bench.transport.data_in(1024) == Answer(Handshake.ACK, IMAGE[512:1536])
    assert bench.status() == csw(PASSED)
    assert bench.transport.bytes_read == 1024


def test_read_in_many_transfers_as_some_host_controllers_do() -> None:
    bench = Bench()

    bench.command(read_10(0, 4), 2048)
    pieces = [bench.transport.data_in(size).data for size in (512, 1024, 512)]

    assert b"".join(pieces) == IMAGE[:2048]
    assert bench.status() == csw(PASSED)


def test_write_in_many_transfers() -> None:
    bench = Bench()
    data = b"w" * 1024

    bench.command(write_10(2, 2), 1024, to_host=False)
    answers = [bench.transport.data_out(piece) for piece in (data[:700], data[700:])]

    assert answers == [ACK, ACK]
    assert bench.status() == csw(PASSED)
    assert bench.medium.image == IMAGE[:1024] + data + IMAGE[2048:]
    assert bench.transport.bytes_written == 1024


def test_failed_command_without_data() -> None:
    bench = Bench()

    bench.command(b"\xff")

    assert bench.status() == csw(FAILED)


# The thirteen cases of section 6.7. Hosts announce H bytes, the command means D.
# Columns: announced, to host, command, transfers and their answers, halted, status, residue.
NOTHING: list[tuple[int | bytes, Answer]] = []
CASES = [
    pytest.param(0, True, TEST_UNIT_READY, NOTHING, "", PASSED, 0, id="1 Hn = Dn"),
    pytest.param(0, True, INQUIRY, NOTHING, "", PHASE_ERROR, 0, id="2 Hn < Di"),
    pytest.param(0, False, write_10(0, 1), NOTHING, "", PHASE_ERROR, 0, id="3 Hn < Do"),
    pytest.param(64, True, TEST_UNIT_READY, NOTHING, "in", PASSED, 64, id="4 Hi > Dn"),
    pytest.param(64, True, b"\xff", NOTHING, "in", FAILED, 64, id="4 Hi > Dn, failed"),
    pytest.param(
        1536,
        True,
        read_10(0, 1),
        [(1536, Answer(Handshake.STALL, IMAGE[:512]))],
        "in",
        PASSED,
        1024,
        id="5 Hi > Di, the stall ends the transfer",
    ),
    pytest.param(
        1024,
        True,
        read_10(0, 1),
        [(512, Answer(Handshake.ACK, IMAGE[:512]))],
        "in",
        PASSED,
        512,
        id="5 Hi > Di, the transfer was full",
    ),
    pytest.param(
        512,
        True,
        read_10(0, 1),
        [(512, Answer(Handshake.ACK, IMAGE[:512]))],
        "",
        PASSED,
        0,
        id="6 Hi = Di",
    ),
    pytest.param(
        512,
        True,
        read_10(0, 2),
        [(512, Answer(Handshake.ACK, IMAGE[:512]))],
        "",
        PHASE_ERROR,
        0,
        id="7 Hi < Di",
    ),
    pytest.param(512, True, write_10(0, 1), NOTHING, "in", PHASE_ERROR, 512, id="8 Hi <> Do"),
    pytest.param(512, False, TEST_UNIT_READY, NOTHING, "out", PASSED, 512, id="9 Ho > Dn"),
    pytest.param(512, False, read_10(0, 1), NOTHING, "out", PHASE_ERROR, 512, id="10 Ho <> Di"),
    pytest.param(
        1024,
        False,
        write_10(0, 1),
        [(b"w" * 1024, ACK)],
        "",
        PASSED,
        512,
        id="11 Ho > Do",
    ),
    pytest.param(512, False, write_10(0, 1), [(b"w" * 512, ACK)], "", PASSED, 0, id="12 Ho = Do"),
    pytest.param(512, False, write_10(0, 2), NOTHING, "out", PHASE_ERROR, 512, id="13 Ho < Do"),
]


@pytest.mark.parametrize(
    ("announced", "to_host", "cdb", "transfers", "halted", "status", "residue"), CASES
)
def test_thirteen_cases(
    announced: int,
    to_host: bool,
    cdb: bytes,
    transfers: list[tuple[int | bytes, Answer]],
    halted: str,
    status: int,
    residue: int,
) -> None:
    bench = Bench()

    bench.command(cdb, announced, to_host=to_host)
    for transfer, expected in transfers:
        if isinstance(transfer, int):
            assert bench.transport.data_in(transfer) == expected
        else:
            assert bench.transport.data_out(transfer) == expected

    assert bench.halted == ({halted} if halted else set())
    assert bench.status() == csw(status, residue)


def test_short_packet_ends_data_that_is_less_than_announced_and_a_stall_follows() -> None:
    bench = Bench()

    bench.command(INQUIRY, 96)
    answer = bench.transport.data_in(96)

    assert answer.handshake is Handshake.ACK
    assert len(answer.data) == 36
    assert bench.halted == {"in"}
    assert bench.status() == csw(PASSED, residue=60)


def test_surplus_of_the_host_is_not_written() -> None:
    bench = Bench()

    bench.command(write_10(0, 1), 1024, to_host=False)
    bench.transport.data_out(b"w" * 1024)

    assert bench.medium.image == b"w" * 512 + IMAGE[512:]
    assert bench.transport.bytes_written == 512


def test_more_data_than_announced_is_a_phase_error() -> None:
    bench = Bench()

    bench.command(write_10(0, 1), 512, to_host=False)

    assert bench.transport.data_out(b"w" * 513) == STALL
    assert bench.halted == {"out"}
    assert bench.status() == csw(PHASE_ERROR, residue=512)
    assert bench.medium.image == IMAGE


def test_medium_that_fails_in_the_middle_of_a_read_stalls_and_fails_the_command() -> None:
    bench = Bench(FailingMemory(IMAGE, fails_at=512))

    bench.command(read_10(0, 2), 1024)

    assert bench.transport.data_in(512) == Answer(Handshake.ACK, IMAGE[:512])
    assert bench.transport.data_in(512) == STALL
    assert bench.halted == {"in"}
    assert bench.status() == csw(FAILED, residue=512)
    assert bench.transport.bytes_read == 512


def test_medium_that_fails_in_the_middle_of_a_write_stalls_and_fails_the_command() -> None:
    bench = Bench(FailingMemory(IMAGE, fails_at=512))

    bench.command(write_10(0, 2), 1024, to_host=False)

    assert bench.transport.data_out(b"w" * 512) == ACK
    assert bench.transport.data_out(b"w" * 512) == STALL
    assert bench.halted == {"out"}
    assert bench.status() == csw(FAILED, residue=512)


INVALID = [
    pytest.param(b"", id="empty"),
    pytest.param(cbw(TEST_UNIT_READY)[:30], id="too short"),
    pytest.param(cbw(TEST_UNIT_READY) + b"\0", id="too long"),
    pytest.param(cbw(TEST_UNIT_READY, signature=b"USBS"), id="wrong signature"),
    pytest.param(cbw(TEST_UNIT_READY, unit=1), id="unit that is not there"),
    pytest.param(cbw(TEST_UNIT_READY, flags=0x01), id="reserved flag"),
    pytest.param(cbw(TEST_UNIT_READY, cdb_length=0), id="no command block"),
    pytest.param(cbw(TEST_UNIT_READY, cdb_length=17), id="command block too long"),
]


@pytest.mark.parametrize("wrapper", INVALID)
def test_invalid_command_halts_both_endpoints_until_a_reset(wrapper: bytes) -> None:
    bench = Bench()

    assert bench.transport.data_out(wrapper) == ACK
    assert bench.halted == {"in", "out"}
    assert bench.transport.broken

    bench.transport.reset()
    assert not bench.transport.broken
    bench.command(TEST_UNIT_READY)
    assert bench.status() == csw(PASSED)


def test_reset_in_the_middle_of_data_makes_ready_for_the_next_command() -> None:
    bench = Bench()
    bench.command(read_10(0, 2), 1024)
    bench.transport.data_in(512)

    bench.transport.reset()

    bench.command(read_10(1, 1), 512)
    assert bench.transport.data_in(512).data == IMAGE[512:1024]
    assert bench.status() == csw(PASSED)


def test_nothing_is_answered_out_of_turn() -> None:
    bench = Bench()

    assert bench.transport.data_in(13) == NAK
    bench.command(read_10(0, 1), 512)
    assert bench.transport.data_out(cbw(TEST_UNIT_READY)) == NAK
    bench.transport.data_in(512)
    assert bench.transport.data_out(cbw(TEST_UNIT_READY)) == NAK
    assert bench.status() == csw(PASSED)
    bench.command(write_10(0, 1), 512, to_host=False)
    assert bench.transport.data_in(13) == NAK


@given(
    steps=st.lists(
        st.one_of(
            st.integers(0, 2048),
            st.binary(max_size=40),
            st.tuples(
                st.sampled_from([INQUIRY, TEST_UNIT_READY, read_10(0, 2), write_10(6, 2), b"\xff"]),
                st.integers(0, 2048),
                st.booleans(),
            ),
        )
    )
)
def test_a_host_that_does_anything_gets_no_more_than_it_asked_for(
    steps: list[int | bytes | tuple[bytes, int, bool]],
) -> None:
    bench = Bench()
    for step in steps:
        match step:
            case int():
                answer = bench.transport.data_in(step)
                in_status = answer.data[:4] == b"USBS"
                assert len(answer.data) <= (13 if in_status else step)
            case bytes():
                bench.transport.data_out(step)
            case cdb, length, to_host:
                bench.transport.data_out(cbw(cdb, length, to_host=to_host))
    bench.transport.reset()

    bench.command(TEST_UNIT_READY)
    answer = bench.transport.data_in(13)
    assert struct.unpack_from("<4s", answer.data) == (b"USBS",)
