"""How the program hears that its machine has slept, from a kernel that really suspends.

The workstation is one of its own: what it mounts from this machine does not outlive a suspend.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kubectl_vmredir.lab.guests.image.build import GuestImage
from tests.support.workstation.vm import WorkstationVm

pytestmark = [pytest.mark.workstation, pytest.mark.asyncio(loop_scope="session")]

LISTEN = """
import asyncio
from kubectl_vmredir.service.suspend import suspends

async def main():
    sleeps = suspends()
    waiting = asyncio.ensure_future(anext(sleeps))
    await asyncio.sleep(0)
    print("listening", flush=True)
    print(f"slept for {await waiting:.1f} s", flush=True)

asyncio.run(main())
"""
SLEEP = "echo core >/sys/power/pm_test && echo mem >/sys/power/state"
"""The kernel goes to sleep, but for the last step, and wakes up after 5 s
(Documentation/power/basic-pm-debugging.rst)."""


async def test_suspend_is_told_and_a_clock_that_is_set_is_not(
    image: GuestImage, tmp_path: Path
) -> None:
    async with (
        WorkstationVm(image, tmp_path) as workstation,
        workstation.agent.running("python3", "-c", LISTEN) as listening,
    ):
        await listening.says("listening")
        await workstation.root("date", "-s", "+1 hour")
        await workstation.root("sh", "-c", SLEEP)
        said = (await listening.end()).check()

    (slept_s,) = re.findall(r"slept for (\S+) s", said)
    assert 3 <= float(slept_s) <= 10
