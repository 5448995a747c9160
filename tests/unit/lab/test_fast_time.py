"""The loop whose clock runs faster than the machine's."""

from __future__ import annotations

import asyncio
import time

from kubectl_vmredir.lab.fast_time import SPEED, FastLoop


def test_a_timer_goes_off_when_the_loops_clock_says_so_and_sooner_on_the_machines() -> None:
    async def sleep() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        begun, begun_here = loop.time(), time.monotonic()
        await asyncio.sleep(1.0)
        return loop.time() - begun, time.monotonic() - begun_here

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        loops, machines = runner.run(sleep())

    assert loops >= 1.0
    assert machines * SPEED < loops * 1.01


def test_a_loop_without_timers_waits_for_other_threads() -> None:
    async def wait() -> str:
        return await asyncio.to_thread(lambda: "done")

    with asyncio.Runner(loop_factory=FastLoop) as runner:
        assert runner.run(wait()) == "done"
