from __future__ import annotations

import os
import subprocess

import pytest

from kubectl_vmredir.usb.ending import is_ending, says_ending


def test_a_process_that_runs_is_not_ending() -> None:
    assert not is_ending(os.getpid())


def test_a_process_that_was_killed_is_ending_before_and_after_it_is_gone() -> None:
    process = subprocess.Popen(["sleep", "3600"])
    assert not is_ending(process.pid)

    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert is_ending(process.pid)
    process.wait()
    assert is_ending(process.pid)


@pytest.mark.parametrize(
    ("flags", "pending", "ending"),
    [
        pytest.param(0x400000, 0, False, id="runs"),
        pytest.param(0x400004, 0, True, id="exits"),
        pytest.param(0x400000, 1 << 8, True, id="killed while it hangs in the kernel"),
        pytest.param(0x400000, 1 << 14, False, id="asked to end"),
    ],
)
def test_what_the_kernel_says_of_a_process_tells_whether_it_ends(
    flags: int, pending: int, ending: bool
) -> None:
    stat = f"7 (evil) 4 4) D 1 7 7 0 -1 {flags} 114 0 0\n"
    status = f"Name:\tx\nSigPnd:\t{0:016x}\nShdPnd:\t{pending:016x}\nSigBlk:\t{1 << 8:016x}\n"

    assert says_ending(stat, status) is ending
