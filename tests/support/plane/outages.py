"""What is done to the control plane, and how the redirections come through it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from kubectl_vmredir.model import RedirectionId
from tests.support.plane.report import Passage, Row
from tests.support.plane.stage import Stage
from tests.support.plane.watching import Course
from tests.support.worlds import Part

BACK_LIMIT_S: Final = 180.0
"""A redirection that is not back so long after its server counts as lost. After an outage of the
API server virt-handler lists again as late as client-go's reflector wants to, a minute at most."""


@dataclass(frozen=True)
class Outage:
    """A server that is away for a while.

    Attributes:
        what: For people.
        part: What is harmed, given the node of the first VM.
        away_s: How long nothing is done before it is started again, or goes on.
        stopped: Whether it is stopped and goes on (SIGSTOP, SIGCONT), not killed and started.
    """

    what: str
    part: Callable[[str], str]
    away_s: float
    stopped: bool = False

    @property
    def title(self) -> str:
        """What it is, and for how long."""
        return f"{self.what}, {self.away_s:.0f} s"


@dataclass(frozen=True)
class Move:
    """All VMs migrate at once."""


Step = Outage | Move

_MOVE: Final = "both VMs migrate"

SHORT: Final[Sequence[Step]] = (
    Outage("virt-api killed", lambda _: Part.VIRT_API, 1),
    Outage("kube-apiserver killed", lambda _: Part.API_SERVER, 2),
    Move(),
    Outage("virt-handler of one node killed", Part.handler, 1),
    Outage("one node stopped (virt-handler, kubelet, QEMU)", Part.node, 10, stopped=True),
    Move(),
)
FULL: Final[Sequence[Step]] = (
    Outage("virt-api killed", lambda _: Part.VIRT_API, 5),
    Move(),
    Outage("kube-apiserver killed", lambda _: Part.API_SERVER, 2),
    Move(),
    Outage("kube-apiserver killed", lambda _: Part.API_SERVER, 60),
    Move(),
    Outage("virt-handler of one node killed", Part.handler, 5),
    Move(),
    Outage("one node stopped (virt-handler, kubelet, QEMU)", Part.node, 90, stopped=True),
    Move(),
)


async def endure(stage: Stage, steps: Sequence[Step], say: Callable[[str], None]) -> list[Row]:
    """Go through outages and migrations, each from where all redirections are up.

    Args:
        stage: Where all are connected.
        steps: In their order.
        say: Hears a sentence at each step.
    """
    rows: list[Row] = []
    for step in steps:
        match step:
            case Outage():
                say(step.title)
                rows.append(await _suffer(stage, step))
            case Move():
                say(_MOVE)
                rows.append(await _migrate(stage))
            case _:
                assert_never(step)
        if not rows[-1].all_back:
            say("not all came back")
            break
    return rows


async def _suffer(stage: Stage, outage: Outage) -> Row:
    part = outage.part(await stage.node())
    stage.audience.begin()
    began = time.monotonic()
    if outage.stopped:
        await stage.world.freeze(part)
        await asyncio.sleep(outage.away_s)
        await stage.world.thaw(part)
    else:
        await stage.world.kill(part)
        await asyncio.sleep(outage.away_s)
        await stage.world.start(part)
    return await _come_back(stage, outage.title, began)


async def _migrate(stage: Stage) -> Row:
    # It ends when it cannot renew its lease; on a cluster a kubelet starts it again.
    await stage.world.start(Part.CONTROLLER)
    stage.audience.begin()
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for machine in stage.vms:
            group.create_task(machine.moved(), name=f"move-{machine.ref}")
    return await _come_back(stage, _MOVE, began)


async def _come_back(stage: Stage, what: str, began: float) -> Row:
    """Wait until all are back, and tell how it went."""
    over = time.monotonic()
    await stage.audience.until(lambda course: course.back, BACK_LIMIT_S)
    passages = [
        _passage(redirection, course, over)
        for redirection, course in stage.audience.courses.items()
    ]
    return Row(what, over - began, tuple(passages))


def _passage(redirection: RedirectionId, course: Course, over: float) -> Passage:
    up = course.up_since if course.back else None
    used = course.used_since if course.back and course.relinked else None
    return Passage(
        redirection=redirection,
        vmi=str(course.status.vmi),
        slot=course.status.slot,
        hit=course.hit,
        relinked=course.relinked,
        up_after_s=None if up is None else max(up - over, 0.0),
        used_after_s=None if used is None else max(used - over, 0.0),
        link_gap_ms=course.link_gap_ms,
        sights=tuple(course.sights),
    )
