from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from benchmarks import in_vm
from benchmarks.idleness import Idleness, Look, Process

BIND = ["python3", "/usr/bin/kubectl-vmredir", "bind", "46f4:0001", "target/first"]
USB_HOST = ["python3", "-P", "-m", "kubectl_vmredir", "usb-host", "--data=7"]


def process(
    pid: int,
    ppid: int,
    command: Sequence[str],
    *,
    ticks: Sequence[int] = (0, 0, 0, 0),
    tasks: Sequence[str] = ("0 0 0\n",),
    name: str = "python3",
) -> Mapping[str, Any]:
    """Return a process as :mod:`benchmarks.in_vm` tells of it; see proc_pid_stat(5)."""
    times = " ".join(map(str, ticks))
    stat = f"{pid} ({name}) S {ppid} {pid} {pid} 0 -1 4194560 1000 7 2 1 {times} 20 0 1 0 99 4096"
    return {"stat": stat, "command": command, "tasks": tasks}


def look(*processes: Mapping[str, Any], clock_s: float = 100, own_pid: int = 9) -> Look:
    said = {
        "clock_s": clock_s,
        "ticks_per_s": 100,
        "own_pid": own_pid,
        "processes": processes,
    }
    return Look.parse(said)


def test_process_is_read_with_all_its_threads_and_the_children_that_ended() -> None:
    tasks = ["1500000000 7 30\n", "250000000 7 12\n"]

    seen = look(process(5, 1, BIND, ticks=(100, 20, 3, 4), tasks=tasks))

    assert seen.tick_s == 0.01
    assert seen.processes == {5: Process(5, "bind 46f4:0001", 127, 1.75, 42)}


def test_name_of_a_process_may_look_like_the_end_of_itself() -> None:
    seen = look(process(5, 1, BIND, ticks=(1, 2, 3, 4), name="a) S 9 (b"))

    assert seen.processes[5].ticks == 10


def test_children_of_ours_are_ours_and_others_are_not() -> None:
    seen = look(
        process(1, 0, ["init"]),
        process(5, 1, BIND),
        process(6, 5, USB_HOST),
        process(7, 6, ["helper", "--fast"]),
        process(8, 1, ["udevd"]),
        process(9, 1, ["python3", "-c", "reads kubectl_vmredir"]),
        process(2, 0, []),
    )

    assert {pid: process.name for pid, process in seen.processes.items()} == {
        5: "bind 46f4:0001",
        6: "bind 46f4:0001: usb-host",
        7: "helper --fast",
    }


def idleness(*, run_s: float = 0.0, ticks: int = 0, seconds: float = 60) -> Idleness:
    """Return what came out if one command did this, and a usb-host that began took one tick."""
    before = look(process(5, 1, BIND, ticks=(50, 50, 0, 0), tasks=["1000000000 0 10\n"]))
    after = look(
        process(
            5,
            1,
            BIND,
            ticks=(50, 50 + ticks, 0, 0),
            tasks=[f"{round((1 + run_s) * 1e9)} 0 70\n"],
        ),
        process(6, 5, USB_HOST, ticks=(1, 0, 0, 0), tasks=["9000000 0 6\n"]),
        clock_s=100 + seconds,
    )
    return Idleness.between(before, after, loop_vm_s=0.06, loop_here_s=0.004)


def test_what_was_done_before_does_not_count_unless_the_process_is_new() -> None:
    command, usb_host = idleness(run_s=0.3, ticks=29).usages

    assert command.ticks_s == pytest.approx(0.29)
    assert command.run_s == pytest.approx(0.3)
    assert command.runs_per_s == pytest.approx(1)
    assert usb_host.ticks_s == pytest.approx(0.01)
    assert usb_host.run_s == pytest.approx(0.009)


@pytest.mark.parametrize(
    ("run_s", "ticks", "share", "ok"),
    [
        (0.591, 0, 0.01, True),
        (0.3, 59, 0.01, True),  # the coarse count is the higher one
        (0.597, 0, 0.0101, False),
        (0.0, 60, 0.010167, False),
    ],
)
def test_one_percent_of_a_core_is_allowed_whichever_way_it_is_counted(
    run_s: float, ticks: int, share: float, ok: bool
) -> None:
    result = idleness(run_s=run_s, ticks=ticks)

    assert result.share == pytest.approx(share, rel=1e-3)
    assert result.ok is ok
    assert ("MISSED" in result.to_text()) is not ok


def test_share_is_told_beside_what_it_would_be_without_emulation() -> None:
    result = idleness(run_s=0.291)

    told = json.loads(json.dumps(result.to_json()))
    assert (told["share"], told["slowness"]) == (0.005, 15.0)
    assert told["share_without_emulation"] == pytest.approx(0.000333)
    assert "15 times" in result.to_text()


def test_this_process_is_among_those_that_are_read() -> None:
    said = in_vm.processes()

    (own,) = (
        entry for entry in said["processes"] if entry["stat"].startswith(f"{said['own_pid']} (")
    )
    assert own["command"]
    assert own["tasks"]


def test_reference_loop_takes_cpu_time() -> None:
    assert in_vm.loop_s() > 0
