import os
from pathlib import Path

import pytest

from kubectl_vmredir.errors import UsbError
from kubectl_vmredir.lab.devices.medium import ImageFile, Memory
from kubectl_vmredir.lab.devices.stick import Stick


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "flash001.img"
    path.write_bytes(b"a" * 512 + b"b" * 512)
    return path


def test_file_is_read_and_written_in_place(image: Path) -> None:
    medium = ImageFile(image)

    assert medium.acquire() is None
    assert medium.size == 1024
    assert medium.read(511, 2) == b"ab"
    medium.write(512, b"c" * 512)
    medium.release()

    assert image.read_bytes() == b"a" * 512 + b"c" * 512


def test_second_holder_is_told_the_process_of_the_first(image: Path) -> None:
    first, second = ImageFile(image), ImageFile(image)

    assert first.acquire() is None
    assert second.acquire() == f"process {os.getpid()}"
    first.release()
    assert second.acquire() is None
    second.release()


def test_process_is_told_right_after_one_with_a_longer_number(image: Path) -> None:
    image.with_name("flash001.img.lock").write_text("4194304\n4194304\n")
    first, second = ImageFile(image), ImageFile(image)

    first.acquire()
    assert second.acquire() == f"process {os.getpid()}"
    first.release()


def test_release_may_come_twice_and_before_anything(image: Path) -> None:
    medium = ImageFile(image)
    medium.release()
    medium.acquire()

    medium.release()
    medium.release()

    assert medium.acquire() is None
    medium.release()


def test_missing_file_is_named(tmp_path: Path) -> None:
    medium = ImageFile(tmp_path / "gone.img")

    with pytest.raises(UsbError, match=r"cannot use .*gone\.img as a medium: No such file"):
        medium.acquire()


def test_missing_file_leaves_no_lock_behind(tmp_path: Path) -> None:
    path = tmp_path / "late.img"
    with pytest.raises(UsbError):
        ImageFile(path).acquire()
    path.write_bytes(bytes(512))
    medium = ImageFile(path)

    assert medium.acquire() is None
    medium.release()


def test_read_only_file_is_opened_for_reading_only(image: Path) -> None:
    medium = ImageFile(image, read_only=True)
    medium.acquire()

    assert medium.read(0, 1) == b"a"
    with pytest.raises(OSError, match="Bad file descriptor"):
        medium.write(0, b"x")
    medium.release()


def test_file_that_was_cut_gives_less(image: Path) -> None:
    medium = ImageFile(image)
    medium.acquire()

    os.truncate(image, 600)

    assert medium.read(512, 512) == b"b" * 88
    medium.release()


def test_memory_is_a_copy() -> None:
    medium = Memory(b"a" * 512)
    medium.write(0, b"b")

    assert medium.acquire() is None
    assert medium.image == b"b" + b"a" * 511
    assert medium.read(511, 9) == b"a"
    medium.release()


@pytest.mark.parametrize("size", [0, 511, 513])
def test_stick_has_whole_blocks(size: int, tmp_path: Path) -> None:
    path = tmp_path / "odd.img"
    path.write_bytes(bytes(size))
    stick = Stick("S1", path)

    with pytest.raises(UsbError, match=f"a stick cannot have {size} bytes"):
        stick.acquire()

    path.write_bytes(bytes(512))
    assert stick.acquire() is None
    stick.release()
