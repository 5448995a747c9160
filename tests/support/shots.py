"""The screenshots of the README: the real program, on a recording, with keys that are pressed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubectl_vmredir.errors import KubeconfigError
from kubectl_vmredir.model import Check, LocalDevice, Outcome
from kubectl_vmredir.service.interface import (
    BindPlan,
    BindRequest,
    DevicesSeen,
    VmiChanged,
    VmiRemoved,
    VmisSeen,
    VmisUncertain,
)
from kubectl_vmredir.tui.session import Entrance, Session
from tests.support import recording
from tests.support.recording import Told
from tests.support.scripted_service import NOON, ScriptedService
from tests.support.tui import Tui, running

FOLDER: Final = Path(__file__).parents[2] / "screenshots"
SIZE: Final = (120, 34)

_FOLDER: Final = "/usr/lib/x86_64-linux-gnu"
CHECKS: Final = (
    Check("user", Outcome.OK, "this runs as an ordinary user"),
    Check("libusb", Outcome.OK, f"version 1.0.26, loaded from {_FOLDER}/libusb-1.0.so.0.3.0"),
    Check(
        "libusbredirhost", Outcome.OK,
        f"version 1.0.3, loaded from {_FOLDER}/libusbredirhost.so.1.0.3",
    ),
    Check("libudev", Outcome.OK, f"version 1.7.5, loaded from {_FOLDER}/libudev.so.1.7.5"),
    Check("bus", Outcome.OK, "4 USB buses"),
    Check("udev", Outcome.OK, "udev runs"),
    Check("devices", Outcome.OK, "this user may open 1 of 2 devices"),
    Check(
        "access", Outcome.WARNING,
        "storage 0951:1666:FLASH001: this user may not open /dev/bus/usb/001/004",
        "kubectl vmredir doctor --udev-rule 0951:1666:FLASH001",
    ),
    Check(
        "access", Outcome.OK, "smartcard 1050:0407: this user may open /dev/bus/usb/001/005"
    ),
    Check(
        "holder", Outcome.WARNING,
        "smartcard 1050:0407: pcscd (process 812) has claimed it",
        "sudo systemctl stop pcscd.socket pcscd.service",
    ),
)  # fmt: skip
"""What ``doctor`` says of a machine with two devices."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A screenshot.

    Attributes:
        name: Name of the file.
        sees: What is on the screen, besides what is in all.
        until: How far the recording is played; empty for a cluster that cannot be had.
        keys: What is pressed then.
        size: Columns and lines of the terminal.
        theme: Colours.
    """

    name: str
    sees: str
    until: str = recording.MOVED
    keys: tuple[str, ...] = ()
    size: tuple[int, int] = SIZE
    theme: str = "textual-dark"


SHOTS: Final = (
    Shot("bind-dialog", "nothing needs it", recording.PLANNED, ("enter", "enter")),
    Shot("migration", "copying", recording.COPYING, ("2", "down")),
    Shot("story", "migrations survived 3", keys=("3",)),
    Shot("story-light", "migrations survived 3", keys=("3",), theme="textual-light"),
    Shot("story-80x24", "migrations survived 3", keys=("3",), size=(80, 24)),
    Shot("no-cluster", "no kubeconfig", until=""),
    Shot("no-devices", "No USB device", until="nothing"),
    Shot("doctor", "run: kubectl vmredir doctor", recording.BEGUN, ("D",)),
    Shot("help", "Show this.", recording.BEGUN, ("question_mark", "end")),
)


class RecordedService(ScriptedService):
    """Tells what was recorded, as far as it is played.

    Attributes:
        now: Seconds since the epoch, on the clock of the recording.
    """

    def __init__(self, told: Sequence[Told]) -> None:
        super().__init__()
        self.now = NOON
        self.plugged: Sequence[LocalDevice] = ()
        self.there = ()
        self._plan: BindPlan | None = None
        self._told = told

    async def play(self, heard: Callable[[], Awaitable[None]]) -> None:
        """Tell it all, and wait each second until it was heard."""
        for told in self._told:
            if int(told.at) > int(self.now):
                await heard()
            self.now = told.at
            match told.item:
                case None:
                    pass
                case BindPlan() as plan:
                    self._plan = plan
                case DevicesSeen() as seen:
                    self.see(seen)
                case VmisSeen() | VmiChanged() | VmiRemoved() | VmisUncertain() as news:
                    self.tell_vmis(news)
                case change:
                    self.tell(change)
        await heard()

    async def plan(self, request: BindRequest) -> BindPlan:
        assert self._plan is not None, "it is recorded"
        return self._plan


def _up_to(mark: str) -> Sequence[Told]:
    if mark not in (recording.BEGUN, recording.PLANNED, recording.COPYING, recording.MOVED):
        return ()
    told = recording.load()
    (last,) = (place for place, one in enumerate(told) if one.mark == mark)
    return told[: last + 1]


@asynccontextmanager
async def drawn(shot: Shot) -> AsyncIterator[Tui]:
    """Show what a screenshot is of."""
    told = _up_to(shot.until)
    service = RecordedService(told)

    @asynccontextmanager
    async def open_session(context: str | None) -> AsyncIterator[Session]:
        if not shot.until:
            raise KubeconfigError(
                "no kubeconfig: nothing at ~/.kube/config",
                hint="Choose one with --kubeconfig FILE, or set KUBECONFIG.",
            )
        yield Session(service, "demo", "lab", "admin", flags=(), lasting=True)

    entrance = Entrance(open_session, contexts=lambda: ("lab", "prod"), examine=lambda: CHECKS)
    async with running(
        service, size=shot.size, entrance=entrance, theme=shot.theme, wall_clock=lambda: service.now
    ) as tui:
        if shot.until:
            await tui.until(lambda: tui.feed.world.session is not None)
            await tui.until(lambda: tui.feed.world.vmis is not None)
        await service.play(tui.pilot.pause)
        await tui.press(*shot.keys)
        await tui.sees(shot.sees)
        yield tui
