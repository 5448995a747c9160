"""One redirection: what has to be done next to keep a device in a slot of a VM.

The task looks at everything, does the next thing, and waits until its bell rings or a time has
come. So it does not matter in which order things happen, or how often it is told. It may be
cancelled, or die, at any await: the device session goes on without it.
"""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import (
    ClusterError,
    DeviceAmbiguous,
    ExitCode,
    IdentityChanged,
    NoUsbSlots,
    RemoteProtocolError,
    SlotsFull,
    UsbError,
    VmRedirError,
)
from kubectl_vmredir.model import RedirectionState
from kubectl_vmredir.service.bell import Bell
from kubectl_vmredir.service.gate import Act, Wait
from kubectl_vmredir.service.identity import same_user
from kubectl_vmredir.service.interface import Numbers, Trouble
from kubectl_vmredir.service.journey import Journey, has_moved
from kubectl_vmredir.service.links import Destination
from kubectl_vmredir.service.liveness import Heartbeat

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.model import (
        DeviceSelector,
        Identity,
        LocalDevice,
        MigrationUid,
        RedirectionId,
        VmiRef,
        VmiView,
    )
    from kubectl_vmredir.service.backoff import BackoffFactory
    from kubectl_vmredir.service.gate import Allowed
    from kubectl_vmredir.service.identity import IdentityCheck
    from kubectl_vmredir.service.links import LinkEnd, LinkEndpoint
    from kubectl_vmredir.service.migration import VmiFacts
    from kubectl_vmredir.service.ports import DeviceSource, Dialer
    from kubectl_vmredir.service.sessions import DeviceSession, DeviceSessions
    from kubectl_vmredir.service.slot_order import SlotOrder
    from kubectl_vmredir.service.story import Story
    from kubectl_vmredir.service.watching import ClusterWatcher

ATTACH_TIMEOUT_S: Final = 15.0
"""How long a VM may take to greet on a fresh link. A slot that is busy says nothing, ever."""

SETTLE_TIMEOUT_S: Final = 10.0
"""How long the usb-host may take to undo what a former guest left, before it is restarted."""

ENUMERATION_S: Final = 5.0
"""A guest may still be enumerating the device for so long after it was plugged in."""

STABLE_AFTER_S: Final = 30.0
"""A link that lasted this long has earned a fresh backoff; a shorter one has not."""

CRASH_HINT: Final = (
    "The link is left as it is. Bind the device again to go on, or unbind it; and please report it."
)

ROUND_TRIP_TO: Final = "virt-handler"
"""Which hop answers the pings of the api route."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user wants, as it was understood at bind.

    Attributes:
        id: Names the redirection.
        device: Selects exactly its device, also after a replug.
        vmi: The VM.
        slot: Name of the slot.
        slot_index: Its place among the slots of the VM.
        bound_by: Who wants it.
    """

    id: RedirectionId
    device: DeviceSelector
    vmi: VmiRef
    slot: str
    slot_index: int
    bound_by: Identity


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What redirections share.

    Attributes:
        devices: Where the devices are.
        dialer: Opens links.
        watcher: Knows the VMs, and holds the gate.
        sessions: Owns the device sessions.
        identity: Knows who we are.
        order_of: Returns the queue of a VM's redirections.
        backoff: How long to wait between two tries.
    """

    devices: DeviceSource
    dialer: Dialer
    watcher: ClusterWatcher
    sessions: DeviceSessions
    identity: IdentityCheck
    order_of: Callable[[VmiRef], SlotOrder]
    backoff: BackoffFactory


class Redirection:
    """Keeps one wish fulfilled; see the module docstring.

    Attributes:
        wish: What is wanted.
        bell: Wakes the task.
        session: The device session that it borrows; None while it has none.
        story: How it stands; set before it runs.
    """

    story: Story

    def __init__(self, wish: Wish, around: Surroundings) -> None:
        self.wish = wish
        self.bell = Bell()
        self.session: DeviceSession | None = None
        self._claiming: LocalDevice | None = None
        self._around = around
        self._order = around.order_of(wish.vmi)
        self._loop = asyncio.get_running_loop()
        self._journey = Journey()
        self._delays = around.backoff()
        self._not_before = 0.0
        self._failed_on_node = ""
        self._trouble: Trouble | None = None
        self._try_again = False
        self._ever_attached = False
        self._tended: LinkEndpoint | None = None
        self._noted_end: LinkEnd | None = None
        self._heartbeat = Heartbeat(0.0)
        self._heard = (0, 0)
        self._attached_at: float | None = None
        self._risk_noted: MigrationUid | None = None
        self._restorations = 0
        self._bytes_before = (0, 0)

    def numbers(self) -> Numbers:
        """Return the counters as they are now."""
        up, down = self._bytes_before
        round_trip_s = None
        if self.session is not None:
            up, down = up + self.session.bytes_up, down + self.session.bytes_down
            round_trip_s = self.session.round_trip_s
        return Numbers(
            bytes_up=up,
            bytes_down=down,
            migrations_survived=self._journey.migrations_survived,
            last_outage_ms=self._journey.last_outage_ms,
            round_trip_ms=None if round_trip_s is None else round(round_trip_s * 1000, 2),
            round_trip_to=ROUND_TRIP_TO,
        )

    def retry(self, bound_by: Identity) -> None:
        """Leave ``blocked``: the user has acted, and binds again."""
        self.wish = dataclasses.replace(self.wish, bound_by=bound_by)
        self._try_again = True
        self.bell.ring()

    def probe(self) -> None:
        """Doubt the link: the machine has slept."""
        self._heartbeat.probe(self._loop.time())
        self.bell.ring()

    async def run(self) -> None:
        """Keep the wish fulfilled, until cancelled."""
        while True:
            if self.session is None:
                await self._bind_allowed()
                self.session = await self._claimed()
            self.session.lend(self.bell)
            await self._keep_linked(self.session)
            await self._let_go()

    async def wind_down(self, act: Act) -> None:
        """End it for good: close the link, as soon as the gate allows it, and the session.

        Where no link is open there is nothing that could harm the VM, and nothing to wait for.

        Args:
            act: As what the gate is asked: UNBIND or EXIT.
        """
        if self.session is None and self._claiming is not None:
            self.session = await self._around.sessions.settled(self._claiming)
        if (session := self.session) is not None:
            session.lend(self.bell)
            while await self._link_open(session):
                verdict = self._ask(act)
                wait = verdict if isinstance(verdict, Wait) else await session.close_link(str(act))
                if wait is not None:
                    self.story.enter(self.story.state, f"{act}: waiting for {wait.reason}")
                    await self.bell.wait(wait.until)
        self._order.leave(self.wish.slot_index)
        await self._let_go()
        self.story.enter(RedirectionState.STOPPED, str(act))

    def crashed(self, bug: BaseException) -> None:
        """Say that the task has ended by a bug; session and link are as they were."""
        self._order.leave(self.wish.slot_index)
        message = f"internal error: {bug!r}"
        trouble = Trouble("InternalError", message, CRASH_HINT, int(ExitCode.FAILURE))
        self.story.enter(RedirectionState.BLOCKED, message, trouble=trouble)

    @staticmethod
    async def _link_open(session: DeviceSession) -> bool:
        await session.dialed()
        return session.endpoint is not None

    async def _let_go(self) -> None:
        if (session := self.session) is not None:
            await self._around.sessions.close(session)
            up, down = self._bytes_before
            self._bytes_before = (up + session.bytes_up, down + session.bytes_down)
            self.session = self._claiming = None

    # -- the device -------------------------------------------------------------------------

    async def _bind_allowed(self) -> None:
        while isinstance(wait := self._ask(Act.BIND), Wait):
            self.story.enter(RedirectionState.HOLDING, f"waiting for {wait.reason}")
            await self.bell.wait(wait.until)

    async def _claimed(self) -> DeviceSession:
        while True:
            try:
                device = await self._plugged_in()
                self._claiming = device
                self.story.enter(RedirectionState.CLAIMING)
                return await self._around.sessions.claim(device)
            except UsbError as error:
                if error.retryable:
                    self.story.enter(RedirectionState.WAITING_DEVICE, str(error))
                    await self.bell.wait(self._loop.time() + next(self._delays))
                else:
                    await self._blocked(error)

    async def _plugged_in(self) -> LocalDevice:
        while True:
            plugged_in = await self._around.devices.devices()
            match [device for device in plugged_in if self.wish.device.matches(device)]:
                case [device]:
                    return device
                case []:
                    self.story.enter(
                        RedirectionState.WAITING_DEVICE, f"device {self.wish.device} is unplugged"
                    )
                    await self.bell.wait()
                case candidates:
                    raise DeviceAmbiguous(self.wish.device, candidates)

    # -- the VM -----------------------------------------------------------------------------

    async def _keep_linked(self, session: DeviceSession) -> None:
        """Keep the session linked to the VM, until it is of no more use and has no link."""
        while True:
            self._note_end(session)
            facts = self._around.watcher.facts(self.wish.vmi)
            if facts.vmi is not None:
                self.story.locate(facts.vmi.node)
            if session.endpoint is not None:
                until = await self._tend(session, session.endpoint, facts)
            elif session.lost or session.restart_wanted:
                self._order.leave(self.wish.slot_index)
                self.story.note(session.lost or session.restart_wanted)
                return
            elif (stranger := self._stranger()) is not None:
                await self._blocked(stranger, lambda: self._stranger() is None)
                continue
            elif session.rejected:
                session.rejected = False
                await self._blocked(RemoteProtocolError("the VM's QEMU refuses the device"))
                continue
            else:
                until = await self._relink(session, facts)
            await self.bell.wait(until)

    def _note_end(self, session: DeviceSession) -> None:
        """Take in once that a link has ended."""
        end = session.last_end
        if session.endpoint is not None or end is None or end is self._noted_end:
            return
        now = self._loop.time()
        self._noted_end = end
        self._journey.link_ended(end)
        if self._attached_at is not None and end.at - self._attached_at > STABLE_AFTER_S:
            self._delays = self._around.backoff()
        self._attached_at = None
        self._not_before = now + next(self._delays)
        self._failed_on_node = end.to.node
        self._trouble = Trouble.of(end.cause)
        self._around.identity.suggest()

    async def _relink(self, session: DeviceSession, facts: VmiFacts) -> float | None:
        """Dial if nothing is in the way; return when to look again."""
        now = self._loop.time()
        slot, vmi = self.wish.slot_index, facts.vmi
        # Those with a higher slot let us go first from now on, also while we may not dial yet.
        if _runs(vmi):
            self._order.want(slot, now)
        else:
            self._order.leave(slot)
        if isinstance(wait := self._ask(Act.DIAL), Wait):
            return self._unlinked(facts, f"waiting for {wait.reason}", wait.until)
        if vmi is None:
            return self._unlinked(facts, "waiting for the VM, which is gone")
        if not _runs(vmi):
            phase = "being deleted" if vmi.deleting else vmi.phase
            return self._unlinked(facts, f"waiting for the VM, which is {phase}")
        if not vmi.client_passthrough:
            await self._blocked(NoUsbSlots(vmi.ref, "it was restarted without"))
            return now
        if vmi.node != self._failed_on_node:
            self._not_before, self._failed_on_node = now, vmi.node
        if now < self._not_before:
            return self._unlinked(facts, "trying again", self._not_before)
        free_at = self._order.free_at(slot, now)
        if free_at is None or now < free_at:
            return self._unlinked(facts, "waiting for the slots before this one", free_at)
        to = Destination(vmi.ref, vmi.uid, vmi.node, facts.successes)
        await self._dial(session, facts, to)
        return now

    def _unlinked(self, facts: VmiFacts, reason: str, until: float | None = None) -> float | None:
        moving = self._journey.under_way(facts, self._loop.time())
        state = RedirectionState.HANDING_OVER if moving else RedirectionState.HOLDING
        self.story.enter(state, reason, trouble=self._trouble)
        return until

    async def _dial(self, session: DeviceSession, facts: VmiFacts, to: Destination) -> None:
        slot = self.wish.slot_index
        moving = self._journey.under_way(facts, self._loop.time())
        self.story.enter(RedirectionState.HANDING_OVER if moving else RedirectionState.DIALING)
        self._order.dialing(slot)
        try:
            # It asks the gate again; what it finds is looked at in the next round.
            await session.dial(self._around.dialer, to)
        except VmRedirError as error:
            await self._dial_failed(error, to)
        finally:
            self._order.dialed(slot)
            if session.endpoint is not None:
                self._order.leave(slot)
            self._around.watcher.ring(self.wish.vmi)

    async def _dial_failed(self, error: VmRedirError, to: Destination) -> None:
        self._trouble = Trouble.of(error)
        self._failed_on_node = to.node
        self._not_before = self._loop.time() + next(self._delays)
        if not error.retryable or (isinstance(error, SlotsFull) and not self._ever_attached):
            self._around.identity.suggest()
            await self._blocked(error)
        elif isinstance(error, SlotsFull) and self._journey.departed is not None:
            # The cluster has not noticed yet that our own last stream is gone.
            self.story.note(f"{error}, one of them perhaps by our own last link; trying again")

    # -- a link that is open ----------------------------------------------------------------

    async def _tend(
        self, session: DeviceSession, endpoint: LinkEndpoint, facts: VmiFacts
    ) -> float | None:
        """Do what an open link needs; return when to look again."""
        now = self._loop.time()
        self._feel_pulse(session, endpoint, now)
        session.attach()
        if session.attached and self._attached_at is None:
            self._note_attached(session, endpoint, now)
        self._note_risk(facts, now)
        if has_moved(endpoint.to, facts):
            self._order.want(self.wish.slot_index, now)
        state, reason = self._linked_state(session, facts, now)
        looks = [self._heartbeat.next_look_at(now), endpoint.opened_at + ATTACH_TIMEOUT_S]
        looks += [migration.reopens_at or now for migration in facts.migrations]
        if session.last_end is not None:
            looks.append(session.last_end.at + SETTLE_TIMEOUT_S)
        if why := self._useless(session, endpoint, facts, now):
            if (wait := await self._end_link(session, why)) is None:
                return self._loop.time()
            reason = f"{why}; waiting for {wait.reason}"
        self.story.enter(state, reason)
        return min((look for look in looks if look > now), default=None)

    def _feel_pulse(self, session: DeviceSession, endpoint: LinkEndpoint, now: float) -> None:
        heard = (session.pongs, session.bytes_down)
        if endpoint is not self._tended:
            self._tended, self._heartbeat = endpoint, Heartbeat(now)
        elif heard != self._heard or not endpoint.reading:
            self._heartbeat.alive()
        self._heard = heard
        if self._heartbeat.ping_due(now):
            session.ping()

    def _note_attached(self, session: DeviceSession, endpoint: LinkEndpoint, now: float) -> None:
        self._attached_at = now
        self._trouble = None
        handover = self._journey.arrived(endpoint.to, session.first_sent_at or now)
        if handover is not None:
            cause = f"went with the VM from {handover.source_node} to {handover.target_node}"
        else:
            cause = "plugged in again" if self._ever_attached else "plugged in"
        if self._ever_attached:
            self._around.identity.suggest()
        self._ever_attached = True
        self.story.enter(RedirectionState.CONNECTED, cause, handover=handover)

    def _note_risk(self, facts: VmiFacts, now: float) -> None:
        migration = facts.in_flight(now)
        if migration is None or migration.uid == self._risk_noted or self._attached_at is None:
            return
        if migration.first_seen_at - self._attached_at < ENUMERATION_S:
            self._risk_noted = migration.uid
            self.story.note("a migration began while the VM may still have been plugging it in")

    def _linked_state(
        self, session: DeviceSession, facts: VmiFacts, now: float
    ) -> tuple[RedirectionState, str]:
        if self._heartbeat.stalled(now):
            return RedirectionState.STALLED, "the link is up, but nothing comes back"
        if not session.attached:
            moving = self._journey.under_way(facts, now)
            state = RedirectionState.HANDING_OVER if moving else RedirectionState.DIALING
            if session.held_for is not None:
                return state, f"waiting for {session.held_for.reason}"
            return state, "waiting for the VM to take the device"
        if (migration := facts.in_flight(now)) is not None:
            return RedirectionState.MIGRATING, f"the VM is migrating ({migration.phase})"
        if facts.doubt:
            return RedirectionState.CONNECTED, f"no news of the VM: {facts.doubt}"
        return RedirectionState.CONNECTED, ""

    def _useless(
        self, session: DeviceSession, endpoint: LinkEndpoint, facts: VmiFacts, now: float
    ) -> str:
        """Return why the link is to be closed; empty if it is not."""
        ended_at = now if session.last_end is None else session.last_end.at
        if not session.settled and now >= ended_at + SETTLE_TIMEOUT_S:
            session.start_over("the device does not come to rest after its last link")
        if session.lost:
            return f"the device is gone: {session.lost}"
        if told := session.restart_wanted or session.close_wanted:
            return told
        if session.rejected:
            return "the VM's QEMU refuses the device"
        if (stranger := self._stranger()) is not None:
            return str(stranger)
        if has_moved(endpoint.to, facts):
            return "the VM has moved"
        if facts.vmi is not None and facts.vmi.uid != endpoint.to.uid:
            return "the VM was restarted"
        silent = not session.attached and session.held_for is None
        if silent and now >= endpoint.opened_at + ATTACH_TIMEOUT_S:
            return "the VM does not take the device: the slot may be busy"
        return "nothing comes back on the link" if self._heartbeat.dead(now) else ""

    @staticmethod
    async def _end_link(session: DeviceSession, why: str) -> Wait | None:
        if session.lost and (wait := await session.detach()) is not None:
            return wait
        return await session.close_link(why)

    # -- what needs a person ----------------------------------------------------------------

    async def _blocked(self, error: VmRedirError, over: Callable[[], bool] | None = None) -> None:
        """Wait until somebody has acted, and is seen to have.

        Seen, for trouble with the cluster, is that its watch comes back: log in again, and the
        device comes back by itself.
        """
        self._order.leave(self.wish.slot_index)
        self._around.watcher.ring(self.wish.vmi)
        self.story.enter(RedirectionState.BLOCKED, str(error), trouble=Trouble.of(error))
        if over is None:
            over = self._watch_restored if isinstance(error, ClusterError) else _never
        self._restorations = self._around.watcher.restorations(self.wish.vmi)
        while not (self._try_again or over()):
            await self.bell.wait()
        self._try_again = False
        self._delays = self._around.backoff()
        self._not_before = self._loop.time()

    def _watch_restored(self) -> bool:
        return self._around.watcher.restorations(self.wish.vmi) > self._restorations

    def _stranger(self) -> IdentityChanged | None:
        current = self._around.identity.current
        if current is None or same_user(self.wish.bound_by, current):
            return None
        return IdentityChanged(self.wish.bound_by, current)

    def _ask(self, act: Act) -> Allowed | Wait:
        return self._around.watcher.gate.may(act, self.wish.vmi, self._loop.time())


def _runs(vmi: VmiView | None) -> bool:
    return vmi is not None and vmi.phase == "Running" and not vmi.deleting


def _never() -> bool:
    return False
