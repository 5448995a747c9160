"""What a service told while a stick went into a VM that moves, kept to draw the program from.

``python -m tests.support.recording`` plays the scenario on the lab and keeps what was told.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kubectl_vmredir.agent.wire import codec_of, dump_line, load_line
from kubectl_vmredir.bootstrap import open_demo
from kubectl_vmredir.lab.backends import Backend
from kubectl_vmredir.lab.demo import DemoLab
from kubectl_vmredir.lab.timeline import Step
from kubectl_vmredir.model import DeviceSelector, RedirectionState, VmiRef
from kubectl_vmredir.service.interface import (
    BindPlan,
    BindRequest,
    ClosingWaits,
    DevicesSeen,
    NumbersSampled,
    RedirectionChanged,
    RedirectionEnded,
    RedirectionService,
    Snapshot,
    StoryAdded,
    VmiChanged,
    VmiRemoved,
    VmisSeen,
    VmisUncertain,
)
from tests.support.scripted_service import NOON

FILE: Final = Path(__file__).parents[1] / "data" / "recording.jsonl"
STICK: Final = DeviceSelector.parse("1209:0001:FLASH001")
FEDORA: Final = VmiRef("demo", "fedora")
MIGRATIONS: Final = 3

BEGUN, PLANNED, BOUND, COPYING, MOVED = "begun", "planned", "bound", "copying", "moved"
"""Marks, in this order: all is known; the bind was planned; it was done; the first migration copies
memory; all migrations are over."""

_PAUSE_S: Final = 8.0
"""How long the guest reads between two steps: longer than it takes until a bind is believed in."""
_SAMPLE_S: Final = 0.5
_LIMIT_S: Final = 600.0

Item = (
    Snapshot | RedirectionChanged | StoryAdded | NumbersSampled | RedirectionEnded | ClosingWaits
    | VmisSeen | VmiChanged | VmiRemoved | VmisUncertain | DevicesSeen | BindPlan
)  # fmt: skip
"""What a service tells: to a subscriber, to a watcher of VMs or devices, or who plans a bind."""


@dataclass(frozen=True, slots=True)
class Told:
    """Something that the service told, or a mark.

    Attributes:
        at: Seconds since the epoch, on the clock of the recording.
        mark: Name of the mark; empty for what the service told.
        item: What it told.
    """

    at: float
    mark: str = ""
    item: Item | None = None


_CODEC: Final = codec_of(Told)


def load() -> Sequence[Told]:
    """Return the recording."""
    return [load_line(_CODEC, line) for line in FILE.read_bytes().splitlines()]


async def play(folder: Path) -> Sequence[Told]:
    """Play the scenario on a lab in that folder, and return what the service told meanwhile."""
    async with (
        asyncio.timeout(_LIMIT_S),
        DemoLab(folder, backend=Backend.SIM) as demo,
        open_demo(demo, "admin") as opened,
        _recorder(opened.service) as recorder,
    ):
        await _scenario(demo, opened.service, recorder)
    return recorder.told


class _Recorder:
    """Writes down what a service tells, on a clock that begins at noon."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._began = time.time()
        self._news = asyncio.Condition()
        self._sampled_at = -math.inf

    async def hear(self, item: Item) -> None:
        """Take what the service told; of numbers no more than what a second of a rate needs."""
        now = time.time() - self._began
        if isinstance(item, NumbersSampled):
            if now - self._sampled_at < _SAMPLE_S:
                return
            self._sampled_at = now
        async with self._news:
            self.told.append(Told(NOON + now, item=_shifted(item, NOON - self._began)))
            self._news.notify_all()

    def mark(self, name: str) -> None:
        """Write down how far the scenario is."""
        self.told.append(Told(NOON + time.time() - self._began, name))

    async def until(self, seen: Callable[[Item], bool]) -> None:
        """Wait until something has been told since the last mark."""

        def found() -> bool:
            recent = itertools.takewhile(lambda told: not told.mark, reversed(self.told))
            return any(told.item is not None and seen(told.item) for told in recent)

        async with self._news:
            await self._news.wait_for(found)


@asynccontextmanager
async def _recorder(service: RedirectionService) -> AsyncIterator[_Recorder]:
    recorder = _Recorder()
    async with (
        service.subscribe(numbers=True) as changes,
        service.watch_vmis("demo") as news,
        service.watch_devices() as devices,
        asyncio.TaskGroup() as group,
    ):
        hearing = [
            group.create_task(_hear(recorder, stream)) for stream in (changes, news, devices)
        ]
        yield recorder
        for task in hearing:
            task.cancel()


async def _hear(recorder: _Recorder, stream: AsyncIterator[Item]) -> None:
    async for item in stream:
        await recorder.hear(item)


async def _scenario(demo: DemoLab, service: RedirectionService, recorder: _Recorder) -> None:
    await recorder.until(lambda item: isinstance(item, VmisSeen))
    await recorder.until(lambda item: isinstance(item, DevicesSeen))
    recorder.mark(BEGUN)
    request = BindRequest(STICK, FEDORA, "flash")
    await recorder.hear(await service.plan(request))
    recorder.mark(PLANNED)
    await service.bind(request)
    await recorder.until(_is_connected)
    await asyncio.sleep(_PAUSE_S)
    recorder.mark(BOUND)
    for number in range(MIGRATIONS):
        hold = Step.DETECTED if number == 0 else None
        move = await demo.lab.migrate(FEDORA, hold_at=hold)
        if hold is not None:
            await move.held(hold)
            await recorder.until(_is_copying)
            recorder.mark(COPYING)
            await move.release()
        await recorder.until(_is_handed_over(number + 1))
        await move.finished()
        await asyncio.sleep(_PAUSE_S)
    recorder.mark(MOVED)


def _is_connected(item: Item) -> bool:
    return isinstance(item, RedirectionChanged) and item.status.state is RedirectionState.CONNECTED


def _is_copying(item: Item) -> bool:
    migration = item.vmi.vmi.migration if isinstance(item, VmiChanged) else None
    return migration is not None and migration.target_domain_detected


def _is_handed_over(count: int) -> Callable[[Item], bool]:
    return lambda item: (
        isinstance(item, RedirectionChanged)
        and item.status.state is RedirectionState.CONNECTED
        and item.status.numbers.migrations_survived == count
    )


def _shifted(item: Item, by_s: float) -> Item:
    """Return the item with its times on another clock."""
    match item:
        case StoryAdded(event=event):
            return replace(item, event=replace(event, time=event.time + by_s))
        case Snapshot(redirections=()):
            return item
        case Snapshot():
            raise AssertionError("something was bound before the beginning")
        case _:
            return item


def main() -> None:
    """Play the scenario, and keep it."""
    with tempfile.TemporaryDirectory(prefix="vmredir-recording-") as folder:
        told = asyncio.run(play(Path(folder)))
    FILE.write_bytes(b"".join(dump_line(_CODEC, one) for one in told))


if __name__ == "__main__":
    main()
