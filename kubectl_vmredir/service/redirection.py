"""One redirection: what has to be done next to keep a device in a slot of a VM.

The task looks at everything, does the next thing, and waits until its bell rings or a time has
come. So it does not matter in which order things happen, or how often it is told. It may be
cancelled, or die, at any await: the device session goes on without it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import (
    ClusterError,
    ExitCode,
    IdentityChanged,
    VmRedirError,
)
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.blocked import Remedy
from kubectl_vmredir.service.claiming import DeviceClaimer
from kubectl_vmredir.service.gate import Act, Wait
from kubectl_vmredir.service.identity import same_user
from kubectl_vmredir.service.interface import Numbers, Trouble
from kubectl_vmredir.service.kept import KeptWish
from kubectl_vmredir.service.linking import LinkKeeper
from kubectl_vmredir.service.story import Story, first_status
from kubectl_vmredir.service.wish import free_slot, slots_of, waiting_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubectl_vmredir.backoff import BackoffFactory
    from kubectl_vmredir.model import Identity, RedirectionId, VmiRef, VmiView
    from kubectl_vmredir.service.identity import IdentityCheck
    from kubectl_vmredir.service.interface import Change
    from kubectl_vmredir.service.ports import Cluster, DeviceSource, Dialer
    from kubectl_vmredir.service.safety import Consent
    from kubectl_vmredir.service.session import DeviceSession
    from kubectl_vmredir.service.sessions import DeviceSessions
    from kubectl_vmredir.service.slot_order import SlotOrder
    from kubectl_vmredir.service.watching import ClusterWatcher
    from kubectl_vmredir.service.wish import Wish

logger = logging.getLogger(__name__)

CRASH_HINT: Final = (
    "The link is left as it is. Bind the device again to go on, or unbind it; and please report it."
)

ROUND_TRIP_TO: Final = "virt-handler"
"""Which hop answers the pings of the api route."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What redirections share.

    Attributes:
        devices: Where the devices are.
        cluster: Where the VMs are.
        dialer: Opens links.
        watcher: Knows the VMs, and holds the gate.
        sessions: Owns the device sessions.
        identity: Knows who we are.
        order_of: Returns the queue of a VM's redirections.
        wishes: Returns all that is wanted.
        try_out: Ends a redirection after a while, unless it is confirmed.
        backoff: How long to wait between two tries.
        publish: Told of each change.
        wall_clock: Returns seconds since the epoch.
    """

    devices: DeviceSource
    cluster: Cluster
    dialer: Dialer
    watcher: ClusterWatcher
    sessions: DeviceSessions
    identity: IdentityCheck
    order_of: Callable[[VmiRef], SlotOrder]
    wishes: Callable[[], Iterator[Wish]]
    try_out: Callable[[RedirectionId], None]
    backoff: BackoffFactory
    publish: Callable[[Change], None]
    wall_clock: Callable[[], float]


@dataclass(frozen=True, slots=True)
class _Moved:
    """What device sessions have moved; see :class:`Numbers`."""

    bytes_up: int = 0
    bytes_down: int = 0
    resets_forwarded: int = 0

    def and_by(self, session: DeviceSession) -> _Moved:
        return _Moved(
            self.bytes_up + session.bytes_up,
            self.bytes_down + session.bytes_down,
            self.resets_forwarded + session.resets_forwarded,
        )


class Redirection:
    """Keeps one wish fulfilled; see the module docstring.

    Attributes:
        wish: What is wanted.
        bell: Wakes the task.
        story: How it stands.
        session: The device session that it borrows; None while it has none.
        paused: Whether this machine is to have the device: :meth:`rest`, and do not :meth:`run`.

    Args:
        kept: What is wanted.
        around: What redirections share.
    """

    def __init__(self, kept: KeptWish, around: Surroundings) -> None:
        self.wish = wish = kept.wish
        self.paused = kept.paused
        self.bell = Bell()
        self.session: DeviceSession | None = None
        self.story = Story(
            first_status(wish.id, str(wish.device), wish.description, wish.vmi, wish.slot),
            around.publish,
            self.numbers,
            around.wall_clock,
        )
        self._bound_by = kept.bound_by
        self._around = around
        self._claimer = DeviceClaimer(
            wish, kept.consent, around, self.story, self.bell, confirmed=kept.confirmed
        )
        self._keeper = LinkKeeper(wish, around, self.story, self._stranger)
        self._remedy = Remedy(
            wish.vmi, around.watcher, around.wishes, self._claimer, self._stranger, self.bell
        )
        self._moved_before = _Moved()

    @property
    def kept(self) -> KeptWish:
        """What it takes to go on with it in another process."""
        return KeptWish(
            self.wish,
            self._bound_by,
            self._claimer.consent,
            paused=self.paused,
            confirmed=self._claimer.confirmed,
        )

    def numbers(self) -> Numbers:
        """Return the counters as they are now."""
        moved, round_trip_s = self._moved_before, None
        if self.session is not None:
            moved = moved.and_by(self.session)
            round_trip_s = self.session.round_trip_s
        return Numbers(
            bytes_up=moved.bytes_up,
            bytes_down=moved.bytes_down,
            resets_forwarded=moved.resets_forwarded,
            migrations_survived=self._keeper.journey.migrations_survived,
            last_outage_ms=self._keeper.journey.last_outage_ms,
            round_trip_ms=None if round_trip_s is None else round(round_trip_s * 1000, 2),
            round_trip_to=ROUND_TRIP_TO,
        )

    def retry(self, bound_by: Identity, consent: Consent) -> None:
        """Leave ``blocked``, at once: the user has acted, and binds again."""
        self.story.enter(RedirectionState.HOLDING, "trying again, as it was bound again")
        self._bound_by = bound_by
        self.paused = False
        self._claimer.start_afresh(consent)
        self._remedy.ask()

    def resume(self) -> None:
        """Be paused no longer."""
        self.paused = False
        self._around.identity.suggest()  # it may have been days: are we still who bound?

    def reconnect(self) -> None:
        """Close the link that is open, and try again at once, whatever was waited for."""
        self.story.note("reconnecting, as was asked")
        self._claimer.start_afresh(self._claimer.consent)
        self._keeper.start_afresh()
        if self.story.state is RedirectionState.BLOCKED:
            self._remedy.ask()
        if self.session is not None and self.session.endpoint is not None:
            self.session.link_unwanted("it was asked to reconnect")
        self.bell.ring()

    def confirm(self) -> None:
        """Keep the only keyboard or pointer in the VM, from now on."""
        self._claimer.confirm()

    def devices_changed(self) -> None:
        """Look again: devices were plugged in or unplugged."""
        self._claimer.devices_changed = True
        self.bell.ring()

    def probe(self) -> None:
        """Doubt the link: the machine has slept."""
        self._keeper.probe()
        self.bell.ring()

    async def run(self) -> None:
        """Keep the wish fulfilled, until cancelled."""
        while True:
            try:
                if self.session is None:
                    await self._identified()
                    self._take_slot(await self._vm_ready())
                    self.session = await self._claimer.claimed()
                    self._remedy.device_had()
                self.session.lend(self.bell)
                over = await self._keeper.keep(self.session)
                self.story.note(f"the device session ends: {over}")
                self._keeper.stand_back()
                await self._let_go()
                self._claimer.pace()
            except VmRedirError as error:
                await self._blocked(error)

    async def rest(self) -> None:
        """Give the device back as soon as that is allowed, and be paused."""
        await self._give_back(Act.UNBIND, "pause")
        self._claimer.start_afresh(self._claimer.consent)
        self._keeper.start_afresh()
        self._keeper.journey.break_off()
        self.story.enter(RedirectionState.PAUSED, "this machine has the device")
        self._claimer.end_trial()

    async def wind_down(self, act: Act, why: str) -> None:
        """End it for good: give the device back as soon as that is allowed.

        Args:
            act: As what the gate is asked: UNBIND or EXIT.
            why: For people.
        """
        await self._give_back(act, why)
        self.story.enter(RedirectionState.STOPPED, why)
        self._claimer.end_trial()  # last: a trial that ends while it is connected was confirmed

    async def _give_back(self, act: Act, why: str) -> None:
        """Close the link, as soon as the gate allows it, and the session.

        Where no link is open there is nothing that could harm the VM, and nothing to wait for.
        """
        if self.session is None:
            self.session = await self._claimer.found()
        if (session := self.session) is not None:
            session.lend(self.bell)
            while await session.linked():
                if wait := self._ask(act) or await session.close_link(why):
                    self.story.enter(self.story.state, f"{why}: waiting for {wait.reason}")
                    await self.bell.wait(wait.until)
        self._keeper.stand_back()
        await self._let_go()

    def crashed(self, bug: BaseException) -> None:
        """Say that the task has ended by a bug; session and link are as they were."""
        self._keeper.stand_back()
        message = f"internal error: {bug!r}"
        trouble = Trouble("InternalError", message, CRASH_HINT, int(ExitCode.FAILURE))
        self.story.enter(RedirectionState.BLOCKED, message, trouble=trouble)

    # -- the device -------------------------------------------------------------------------

    async def _identified(self) -> None:
        """Return when it is known who we are: at bind it was asked, after a restart it was not.

        Raises:
            ClusterError: If a person must act before it can be known.
        """
        delays = self._around.backoff()
        while self._around.identity.current is None:
            try:
                await self._around.identity.ask()
            except ClusterError as error:
                if not error.retryable:
                    raise
                self.story.enter(RedirectionState.HOLDING, str(error), trouble=Trouble.of(error))
                await self.bell.wait(asyncio.get_running_loop().time() + next(delays))

    async def _vm_ready(self) -> VmiView:
        """Return the VM when it runs, and the gate allows to bind.

        Until then this machine has the device: it may be long.

        Raises:
            ClusterError: If a person must act before it can.
        """
        waited = False
        while True:
            vmi = self._around.watcher.facts(self.wish.vmi).vmi
            if (wait := self._ask(Act.BIND)) is not None:
                if (trouble := self._around.watcher.trouble(self.wish.vmi)) is not None:
                    raise trouble
                self.story.enter(RedirectionState.HOLDING, f"waiting for {wait.reason}")
                await self.bell.wait(wait.until)
            elif absence := waiting_for(self.wish.vmi, vmi):
                reason = f"waiting for {absence}"
                if not (self.story.enter(RedirectionState.HOLDING, reason) or waited):
                    self.story.note(reason)
                waited = True
                await self.bell.wait()
            else:
                assert vmi is not None, "a VM that is not there was not waited for"
                if waited:  # perhaps for days: are we still who bound?
                    self._around.identity.suggest()
                return vmi

    def _take_slot(self, vmi: VmiView) -> None:
        """Have a slot of a VM that runs, once and for all.

        Raises:
            ClusterError: If there is none, or not the one that was wished for.
        """
        slots = slots_of(vmi)
        if self.wish.slot_index is None and slots is not None:
            others = (wish for wish in self._around.wishes() if wish.id != self.wish.id)
            slot = free_slot(vmi.ref, slots, self.wish.slot, others)
            self.wish = replace(self.wish, slot=slot, slot_index=slots.index(slot))
            self._keeper.wish = self.wish
            self.story.place(slot)

    async def _let_go(self) -> None:
        """Give the device back; its link is closed already."""
        if (session := self.session) is not None:
            # First: whoever is cancelled here must not find a session that is being closed.
            self.session = None
            self._moved_before = self._moved_before.and_by(session)
            await self._around.sessions.close(session)

    # -- what needs a person ----------------------------------------------------------------

    async def _blocked(self, error: VmRedirError) -> None:
        """Wait until somebody has acted, and is seen to have."""
        self._keeper.stand_back()
        self.story.enter(RedirectionState.BLOCKED, str(error), trouble=Trouble.of(error))
        await self._remedy.found(error)
        self._keeper.start_afresh()

    def _stranger(self) -> IdentityChanged | None:
        current = self._around.identity.current
        if current is None or same_user(self._bound_by, current):
            return None
        return IdentityChanged(self._bound_by, current)

    def _ask(self, act: Act) -> Wait | None:
        now = asyncio.get_running_loop().time()
        verdict = self._around.watcher.gate.may(act, self.wish.vmi, now)
        return verdict if isinstance(verdict, Wait) else None
