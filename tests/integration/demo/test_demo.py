"""``demo --headless`` as a user runs it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.lab.fast_time import SPEED
from kubectl_vmredir.lab.story import IMAGE_BYTES
from tests.support.commands import Cli
from tests.support.terminals import CTRL_C, on_a_terminal

KEYS = {
    "backend", "migrations", "sha256_expected", "sha256_guest", "bytes_served",
    "guest_disconnects", "io_errors_after_handover", "ok", "clock_speed",
}  # fmt: skip
MIGRATION_KEYS = {"handover", "link_gap_ms", "guest_gap_ms", "source_node", "target_node"}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command of a user whose kubeconfig blocks whoever reads it."""
    os.mkfifo(tmp_path / "kubeconfig")
    return Cli(tmp_path, {"KUBECONFIG": str(tmp_path / "kubeconfig")})


def assert_good(report: dict[str, Any], migrations: int) -> None:
    """Check a report of so many migrations, all of which went well."""
    assert report.keys() == KEYS
    assert report["ok"] is True
    assert len(report["migrations"]) == migrations
    for migration in report["migrations"]:
        assert migration.keys() == MIGRATION_KEYS
        assert migration["handover"] == "cold"
        assert {migration["source_node"], migration["target_node"]} == {"node1", "node2"}
        assert migration["link_gap_ms"] >= 100, "the nodeName gap of the lab"
        assert migration["guest_gap_ms"] >= migration["link_gap_ms"]
    passes = report["sha256_guest"]
    assert len(passes) > migrations
    assert set(passes) == {report["sha256_expected"]}
    assert report["bytes_served"] >= IMAGE_BYTES[report["backend"]] * len(passes)
    assert report["guest_disconnects"] == migrations
    assert report["io_errors_after_handover"] == 0


async def test_script_gets_one_json_object_and_nothing_else(cli: Cli) -> None:
    demo = "demo --headless --backend sim -o json --migrations"

    done, another = await cli.each(f"{demo} 2", f"{demo} 0")

    report, other = json.loads(done.out), json.loads(another.out)
    assert_good(report, migrations=2)
    assert_good(other, migrations=0)
    assert report["sha256_expected"] != other["sha256_expected"], "random for each run"
    assert (report["backend"], report["clock_speed"]) == ("sim", SPEED)
    assert (done.status, done.err) == (ExitCode.OK, "")


async def test_person_at_a_terminal_sees_the_story_besides_the_report(
    cli: Cli, tmp_path: Path
) -> None:
    arguments = ("demo", "--headless", "--backend", "sim", "-o", "json", "--migrations", "1")
    with (tmp_path / "report").open("wb") as report:
        async with on_a_terminal(cli, *arguments, stdout=report) as terminal:
            for words in (
                "a lab of 2 nodes is up, with sim guests",
                "VM demo/fedora runs",
                "is plugged into demo/fedora, slot flash",
                "the guest has read it once: checksum right",
                "migration 1: node1 to node2, cold, link gap ",
                "read again: checksum right",
            ):
                await terminal.says(words)
            assert await terminal.end() == ExitCode.OK

    assert_good(json.loads((tmp_path / "report").read_text()), migrations=1)


async def test_report_for_people_says_what_the_guest_is_and_whether_all_is_well(cli: Cli) -> None:
    without_qemu = Cli(cli.home, {**cli.environment, "PATH": ""})

    done = await without_qemu("demo", "--headless", "--migrations", "1")

    assert f"guest         simulated, without QEMU; its time runs {SPEED} times" in done.out
    assert "migrations    1\n" in done.out
    assert ", 0 wrong\n" in done.out
    assert done.out.endswith("ok: true\n")
    assert (done.status, done.err) == (ExitCode.OK, "")


async def test_ctrl_c_twice_leaves_nothing_behind(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    cli = Cli(cli.home, {**cli.environment, "TMPDIR": str(tmp_path / "tmp")})
    async with on_a_terminal(cli, "demo", "--headless", "--backend", "sim") as terminal:
        await terminal.says("is plugged into demo/fedora")
        terminal.press(CTRL_C)
        terminal.press(CTRL_C)

        assert await terminal.end() == ExitCode.INTERRUPTED
        assert "Traceback" not in terminal.said

    assert list((tmp_path / "tmp").iterdir()) == []


async def test_without_a_terminal_it_is_the_story(cli: Cli) -> None:
    done = await cli("demo", "--backend", "sim", "--migrations", "1")

    assert done.status == ExitCode.OK
    assert done.out.endswith("ok: true\n")


async def test_chaos_is_for_the_terminal(cli: Cli) -> None:
    done = await cli("demo", "--chaos")

    assert done.status == ExitCode.USAGE
    assert "--chaos is for the terminal UI" in done.err


async def test_qemu_that_is_not_there_is_an_error(cli: Cli) -> None:
    without_qemu = Cli(cli.home, {**cli.environment, "PATH": ""})

    done = await without_qemu("demo", "--headless", "--backend", "qemu", "-o", "json")

    assert (done.status, done.out) == (ExitCode.FAILURE, "")
    assert "error: there is no qemu-system-x86_64" in done.err


@pytest.mark.qemu
async def test_on_real_qemu(cli: Cli) -> None:
    with_image = {
        name: os.environ[name] for name in ("XDG_CACHE_HOME", "HOME") if name in os.environ
    }

    done = await Cli(cli.home, {**cli.environment, **with_image})(
        "demo", "--headless", "--backend", "qemu", "-o", "json", "--migrations", "2"
    )

    report = json.loads(done.out)
    assert_good(report, migrations=2)
    assert (report["backend"], report["clock_speed"]) == ("qemu", 1)
    assert (done.status, done.err) == (ExitCode.OK, "")
