"""What the screenshots are drawn from is what the lab does today."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

from kubectl_vmredir.lab.fast_time import FastLoop
from kubectl_vmredir.service.interface import (
    BindPlan,
    DevicesSeen,
    NumbersSampled,
    StoryAdded,
    VmisSeen,
)
from tests.support.recording import Told, load, play


def structure(told: Sequence[Told]) -> list[str]:
    """Return what was told, without what differs each time: times, nodes, numbers, repetitions."""
    return [text for text, _ in itertools.groupby(filter(None, map(_shape, told)))]


def _shape(told: Told) -> str:
    match told.item:
        case None:
            return f"-- {told.mark}"
        case StoryAdded(event=event):
            handover = f" {event.handover.kind}" if event.handover is not None else ""
            return f"story: {event.state}{handover}"
        case VmisSeen(vmis=vmis):
            slots = [f"{entry.vmi.ref}: {[slot.name for slot in entry.slots]}" for entry in vmis]
            return f"VMs: {', '.join(slots)}"
        case DevicesSeen(devices=devices):
            return f"devices: {[str(seen.device) for seen in devices]}"
        case BindPlan() as plan:
            return f"plan: {plan.device} {plan.vmi} {plan.slot} {plan.handover} {plan.notes}"
        case _:
            return ""  # how often a VM or a status is told again is a matter of time


def test_the_lab_tells_what_was_recorded(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        told = runner.run(play(tmp_path))

    assert structure(told) == structure(load())
    assert any(isinstance(one.item, NumbersSampled) for one in told)
