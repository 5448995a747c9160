"""The story of the demo: a USB stick in a VM that moves, and the proof that it was read right.

The stick has random content, so that no cache knows it; the guest reads it directly (O_DIRECT),
hashes what it read by itself, and says so on its console; the stick counts what it served. The
story binds the stick as an ordinary user, asks for migrations one after the other, and waits
after each for a whole pass that began when the stick was back.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import LabError
from kubectl_vmredir.lab.guests.report import (
    ConsoleReader,
    Disconnect,
    DiskSeen,
    Gap,
    PassDone,
)
from kubectl_vmredir.model import DeviceSelector, HandoverKind, RedirectionState, VmiRef
from kubectl_vmredir.service.interface import (
    BindRequest,
    Change,
    Handover,
    RedirectionChanged,
    RedirectionService,
    Snapshot,
    StoryAdded,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from kubectl_vmredir.lab.guests.report import Fact
    from kubectl_vmredir.model import RedirectionId

VM: Final = VmiRef("demo", "fedora")
SLOT: Final = "flash"
IMAGE_BYTES: Final = {"qemu": 4 << 20, "sim": 1 << 20}
"""Size of the stick, by backend: a pass takes a second or less."""

_STEP_LIMIT_S: Final = 120.0
"""How long one step of the story may take: boot, bind, migration, pass."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the story is played on.

    Attributes:
        service: Sees the cluster as an ordinary user, and the stick.
        device: Names the stick.
        image: Its content.
        bytes_served: Returns how many bytes of it were read so far.
        migrate: Starts a live migration, as an administrator does.
        console: All that the guest prints, wherever it runs.
        backend: What the guest is; for the report.
        clock_speed: How much faster than real time all clocks run; for the report.
    """

    service: RedirectionService
    device: DeviceSelector
    image: bytes
    bytes_served: Callable[[], int]
    migrate: Callable[[VmiRef], Awaitable[object]]
    console: AsyncIterator[bytes]
    backend: str
    clock_speed: int


@dataclass(frozen=True, slots=True)
class Migrated:
    """One migration, as it was for the stick; both gaps as in docs/migration.md.

    Attributes:
        handover: What the guest saw.
        link_gap_ms: From the last byte that the source consumed to the first that the target
            accepted.
        guest_gap_ms: On the guest's clock, from the last good direct read to the next one.
        source_node: Where the VM was.
        target_node: Where it went.
    """

    handover: HandoverKind
    link_gap_ms: float
    guest_gap_ms: int
    source_node: str
    target_node: str


@dataclass(frozen=True, slots=True)
class Report:
    """How the story ended.

    Attributes:
        backend: ``sim`` or ``qemu``.
        clock_speed: How much faster than real time all clocks ran: 1 for QEMU. Gaps are in the
            milliseconds of that clock.
        migrations: One entry for each.
        sha256_expected: Of the stick's image.
        sha256_guest: What the guest found, one for each whole pass.
        bytes_served: Bytes of the medium that the stick delivered.
        guest_disconnects: How often the guest's kernel saw the stick go.
        io_errors_after_handover: Failed reads in passes that began after the stick was back.
        ok: Whether a whole pass followed every handover, and every such pass was right.
    """

    backend: str
    clock_speed: int
    migrations: tuple[Migrated, ...]
    sha256_expected: str
    sha256_guest: tuple[str, ...]
    bytes_served: int
    guest_disconnects: int
    io_errors_after_handover: int
    ok: bool


class _Witness:
    """What the guest has said so far, and who waits for more of it.

    Attributes:
        passes: Whole passes.
        disconnects: How often the kernel saw the stick go.
        attached: When the stick was first seen (uptime), by the disconnects before.
        gaps: First gap that ended since then, in milliseconds, by the disconnects before.
    """

    def __init__(self) -> None:
        self._condition = asyncio.Condition()
        self.passes: list[PassDone] = []
        self.disconnects = 0
        self.attached: dict[int, float] = {}
        self.gaps: dict[int, int] = {}

    async def listen(self, console: AsyncIterator[bytes]) -> None:
        reader = ConsoleReader()
        async for data in console:
            facts = reader.feed(data)
            async with self._condition:
                for fact in facts:
                    self._hear(fact)
                self._condition.notify_all()

    def _hear(self, fact: Fact) -> None:
        match fact:
            case PassDone():
                self.passes.append(fact)
            case Gap():
                self.gaps.setdefault(self.disconnects, fact.milliseconds)
            case DiskSeen():
                self.attached.setdefault(self.disconnects, fact.t)
            case Disconnect():
                self.disconnects += 1
            case _:
                pass

    async def wait(self, what: str, seen: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(_STEP_LIMIT_S), self._condition:
                await self._condition.wait_for(seen)
        except TimeoutError as exc:
            raise LabError(f"the guest did not report {what} in {_STEP_LIMIT_S:.0f} s") from exc

    async def whole_pass_after(self, disconnects: int) -> None:
        """Wait for a pass that began when the stick was back after so many disconnects."""
        await self.wait("the stick", lambda: disconnects in self.attached)
        since = self.attached[disconnects]
        await self.wait(
            "a whole pass", lambda: bool(self.passes) and self.passes[-1].started >= since
        )

    async def gap_after(self, disconnects: int) -> int:
        """Return the gap that so many disconnects left behind, in milliseconds."""
        await self.wait("a gap", lambda: disconnects in self.gaps)
        return self.gaps[disconnects]


class _Follower:
    """The redirection's changes: its state, and its handovers."""

    def __init__(self) -> None:
        self.handovers: asyncio.Queue[Handover] = asyncio.Queue()
        self._condition = asyncio.Condition()
        self._state: RedirectionState | None = None
        self._reason = ""

    async def listen(self, changes: AsyncIterator[Change], wanted: RedirectionId) -> None:
        async for change in changes:
            match change:
                case StoryAdded(id=found, event=event) if found == wanted:
                    if event.handover is not None:
                        self.handovers.put_nowait(event.handover)
                case RedirectionChanged(status=status) if status.id == wanted:
                    await self._set(status.state, status.reason)
                case Snapshot(redirections=views):
                    for view in views:
                        if view.status.id == wanted:
                            await self._set(view.status.state, view.status.reason)
                case _:
                    pass

    async def _set(self, state: RedirectionState, reason: str) -> None:
        async with self._condition:
            self._state, self._reason = state, reason
            self._condition.notify_all()

    async def connected(self) -> None:
        try:
            async with asyncio.timeout(_STEP_LIMIT_S), self._condition:
                await self._condition.wait_for(lambda: self._state is RedirectionState.CONNECTED)
        except TimeoutError as exc:
            raise LabError(
                f"the stick is {self._state} after {_STEP_LIMIT_S:.0f} s: {self._reason}"
            ) from exc

    async def next_handover(self) -> Handover:
        try:
            async with asyncio.timeout(_STEP_LIMIT_S):
                return await self.handovers.get()
        except TimeoutError as exc:
            raise LabError(f"no handover within {_STEP_LIMIT_S:.0f} s of a migration") from exc


async def tell(stage: Stage, *, migrations: int, say: Callable[[str], None]) -> Report:
    """Play the story; return the report.

    Args:
        stage: The lab, whose VM runs.
        migrations: How many.
        say: Hears a sentence for people at each step.

    Raises:
        VmRedirError: If the story cannot go on.
    """
    service, device = stage.service, stage.device
    expected = hashlib.sha256(stage.image).hexdigest()
    witness, follower = _Witness(), _Follower()
    moved: list[Migrated] = []
    async with asyncio.TaskGroup() as group, service.subscribe() as changes:
        redirection = await service.bind(BindRequest(device, VM, SLOT))
        listeners = [
            group.create_task(witness.listen(stage.console), name="guest-console"),
            group.create_task(follower.listen(changes, redirection), name="story-changes"),
        ]
        await follower.connected()
        say(f"{device} is plugged into {VM}, slot {SLOT}")
        await witness.whole_pass_after(0)
        say(f"the guest has read it once: {_verdict(witness.passes[-1], expected)}")
        for number in range(1, migrations + 1):
            await stage.migrate(VM)
            handover = await follower.next_handover()
            await follower.connected()
            await witness.whole_pass_after(number)
            last = Migrated(
                handover.kind,
                round(handover.link_gap_ms, 1),
                await witness.gap_after(number),
                handover.source_node,
                handover.target_node,
            )
            moved.append(last)
            say(
                f"migration {number}: {last.source_node} to {last.target_node}, {last.handover}, "
                f"link gap {last.link_gap_ms:.0f} ms, guest gap {last.guest_gap_ms} ms; "
                f"read again: {_verdict(witness.passes[-1], expected)}"
            )
        report = _report(stage, moved, expected, witness)
        await service.unbind(redirection)
        for listener in listeners:
            listener.cancel()
    return report


def _verdict(done: PassDone, expected: str) -> str:
    return "checksum right" if done.sha256 == expected else "CHECKSUM WRONG"


def _report(stage: Stage, moved: list[Migrated], expected: str, witness: _Witness) -> Report:
    bytes_served = stage.bytes_served()
    attached = [witness.attached[count] for count in sorted(witness.attached)]
    borders = [*attached[1:], float("inf")]
    # Passes that began after the stick was there, by the time that it was there.
    after = [
        [done for done in witness.passes if since <= done.started and done.ended <= until]
        for since, until in zip(attached, borders, strict=True)
    ]
    begun = [done for passes in after for done in passes]
    errors = sum(done.errors for done in begun)
    right = all(done.sha256 == expected for done in begun)
    return Report(
        backend=stage.backend,
        clock_speed=stage.clock_speed,
        migrations=tuple(moved),
        sha256_expected=expected,
        sha256_guest=tuple(done.sha256 for done in witness.passes),
        bytes_served=bytes_served,
        guest_disconnects=witness.disconnects,
        io_errors_after_handover=errors,
        ok=len(after) == len(moved) + 1
        and all(after)
        and right
        and errors == 0
        and bytes_served >= len(stage.image) * len(witness.passes),
    )
