from __future__ import annotations

import gzip

from kubectl_vmredir.lab.guests.image.cpio import Archive

# Typed from Documentation/driver-api/early-userspace/buffer-format.rst: magic, ino, mode, uid, gid,
# nlink, mtime, filesize, maj, min, rmaj, rmin, namesize, check; name and data padded to 4.
FOLDER = (
    b"070701" b"00000001" b"000041ED" b"00000000" b"00000000" b"00000002" b"00000000" b"00000000"
    b"00000000" b"00000000" b"00000000" b"00000000" b"00000004" b"00000000" b"bin\0\0\0"
)  # fmt: skip
FILE = (
    b"070701" b"00000002" b"000081ED" b"00000000" b"00000000" b"00000001" b"00000000" b"00000005"
    b"00000000" b"00000000" b"00000000" b"00000000" b"00000007" b"00000000" b"bin/sh\0\0\0\0"
    b"hello\0\0\0"
)  # fmt: skip
TRAILER = (
    b"070701" b"00000000" b"00000000" b"00000000" b"00000000" b"00000001" b"00000000" b"00000000"
    b"00000000" b"00000000" b"00000000" b"00000000" b"0000000B" b"00000000" b"TRAILER!!!\0\0\0\0"
)  # fmt: skip


def test_archive_bytes() -> None:
    archive = Archive()
    archive.add_folder("bin")
    archive.add_file("bin/sh", b"hello", executable=True)

    assert gzip.decompress(archive.compressed()) == FOLDER + FILE + TRAILER


def test_same_content_gives_same_bytes() -> None:
    one, other = Archive(), Archive()
    for archive in (one, other):
        archive.add_file("init", b"x" * 1000)

    assert one.compressed() == other.compressed()
