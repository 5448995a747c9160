"""What is shipped: the same bytes each time, static, and for the right machine."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kubectl_vmredir.errors import EdgeUnavailable
from kubectl_vmredir.kubevirt.edge import build, program
from tests.support.edges import EdgeBed

pytestmark = pytest.mark.native

ELF_MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine of elf(5)
MAX_BYTES = 32 << 10


@pytest.fixture(scope="module", params=build.ARCHITECTURES)
def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("shipped") / f"edge-{request.param}"
    build.compile_edge(request.param, target)
    return target


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the one that is shipped for this machine."""
    target = tmp_path_factory.mktemp("own") / "edge"
    build.compile_edge(os.uname().machine, target)
    target.chmod(0o700)
    return target


def test_same_sources_make_the_same_bytes(shipped: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    build.compile_edge(shipped.name.removeprefix("edge-"), again)

    assert again.read_bytes() == shipped.read_bytes()


def test_program_is_small_static_and_says_nothing_of_where_it_was_made(shipped: Path) -> None:
    data = shipped.read_bytes()
    architecture = shipped.name.removeprefix("edge-")

    assert len(data) < MAX_BYTES
    assert int.from_bytes(data[18:20], "little") == ELF_MACHINES[architecture]
    assert b"/lib/ld-" not in data
    assert str(build.FOLDER).encode() not in data
    assert b"/tmp/" not in data


def test_shipped_program_does_what_the_tested_one_does(own: Path) -> None:
    with EdgeBed(own) as bed:
        client = bed.opened(lockstep=True)
        client.send(b"x" * 5000)
        client.flushed()
        bed.slot.wait_until_readable()
        bed.slot.read()
        client.consumed(4096)
        bed.slot.hang_up()

        assert client.closed().consumed in (4096, 5000)


def test_program_is_read_with_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "BINARIES", tmp_path)
    (tmp_path / "edge-aarch64").write_bytes(b"abc")

    found = program.edge_program("aarch64")

    assert found.data == b"abc"
    assert found.sha256 == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    )


@pytest.mark.parametrize("architecture", ["x86_64", "riscv64", "../../x"])
def test_machine_without_an_edge_is_said(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "BINARIES", tmp_path)

    with pytest.raises(EdgeUnavailable, match="no edge for"):
        program.edge_program(architecture)


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "compiler_found", lambda: False)

    with pytest.raises(build.CompilerMissing, match="pip install ziglang"):
        build.compile_edge("x86_64", tmp_path / "edge")


def test_program_without_arguments_says_how_it_is_used(own: Path) -> None:
    done = subprocess.run([own], capture_output=True, check=False)

    assert done.returncode == 1
    assert done.stderr == b"edge: usage: edge SOCKET SLOT, errno 022\n"
