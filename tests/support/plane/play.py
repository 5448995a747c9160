"""The whole of it: a control plane of its own, the outages, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.plane.outages import Step, endure
from tests.support.plane.report import Report
from tests.support.plane.stage import set_up
from tests.support.worlds import Kind, start_world

START_LIMIT_S: Final = 120.0
"""For guests that boot without hardware acceleration, and look at four devices each."""


async def play(
    folder: Path,
    steps: Sequence[Step],
    devices: Mapping[str, str],
    say: Callable[[str], None],
) -> Report:
    """Go through outages and migrations on a control plane of its own.

    Args:
        folder: An empty one with a short path.
        steps: In their order.
        devices: Kinds of those of each VM, by their slots.
        say: Hears a sentence at each step.
    """
    (folder / "plane").mkdir()
    (folder / "home").mkdir()
    with start_world(Kind.CLUSTER, folder / "plane") as world:
        say("the control plane is up")
        async with set_up(world, folder / "home", devices) as stage:
            assert await stage.audience.until(lambda course: course.back, START_LIMIT_S)
            say(f"{len(stage.audience.courses)} redirections are connected")
            assert await stage.read_by_guests(), "the sticks were not right to begin with"
            rows = await endure(stage, steps, say)
            read_right = rows[-1].all_back and await stage.read_by_guests()
        return Report.of(rows, read_right=read_right, log=stage.log.read_text())
